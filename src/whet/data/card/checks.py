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


CHECKS = (
    Check(
        "Languages", "language", {"action": "flag"}, "Of rows long enough to tell.", "No row is long enough to tell."
    ),
    Check(
        "Inconsistencies",
        "inconsistencies",
        {"action": "flag"},
        "Answers that may teach the wrong thing.",
        "None found.",
    ),
    Check("Quality", "quality", {"action": "flag"}, "Rules that web text is filtered by.", "Every row passes."),
    Check(
        "Personal data", "personal", {"action": "flag"}, "Kinds that were found; values are not kept.", "None found."
    ),
    Check("Toxicity", "toxic", {"action": "flag"}, "By a lexicon with context; read it as a hint.", "None found."),
    Check("Groups of people", "groups", {}, "Who is mentioned.", "No group is mentioned."),
)
