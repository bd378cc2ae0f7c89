"""The steps of curation that a card runs without changing a row: what each would flag is what the card reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """One section of a card: a step in its flagging form, and what is said where it finds nothing."""

    title: str
    step: str
    settings: dict[str, Any]
    about: str
    nothing: str


FLAG = {"action": "flag"}
CHECKS = (
    Check("Languages", "language", {}, "Of rows long enough to tell.", "No row is long enough to tell."),
    Check(
        "Inconsistencies", "inconsistencies", {"empty": "flag", "roles": "flag"},
        "Answers that may teach the wrong thing.", "None found.",
    ),
    Check("Quality", "quality", FLAG, "Rules for web text, on running text; else only loops.", "Every row passes."),
    Check("Personal data", "personal", FLAG, "Kinds that were found; values are not kept.", "None found."),
    Check("Toxicity", "toxic", FLAG, "By a lexicon with context; read it as a hint.", "None found."),
    Check("Groups of people", "groups", {}, "Who is mentioned.", "No group is mentioned."),
)  # fmt: skip
