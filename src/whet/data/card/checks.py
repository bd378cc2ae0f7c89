"""The steps of curation that a card runs without changing a row: what each would flag is what the card reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from whet.data.curation.ledger import Entry

Counts = list[tuple[str, int]]


def reasons(entry: Entry) -> Counts:
    """The step's reasons, and how many rows have each."""
    return entry.reasons.most_common()


def toxic(entry: Entry) -> Counts:
    """Kinds of toxic content; that a row was scored is none."""
    return [(reason, rows) for reason, rows in reasons(entry) if reason != "scored"]


def groups(entry: Entry) -> Counts:
    """The groups that are named, and in how many rows."""
    found = [(group, of["rows"]) for axis in entry.notes.get("report", {}).values() for group, of in axis.items()]
    return sorted(found, key=lambda pair: -pair[1])


@dataclass(frozen=True)
class Check:
    """One section of a card: a step in its flagging form, what it counts, and what is said where it finds nothing."""

    title: str
    step: str
    settings: dict[str, Any]
    about: str
    nothing: str
    counts: Callable[[Entry], Counts] = reasons
    unit: str = "rows"

    def rows(self, entry: Entry) -> int:
        """The rows in which something was found."""
        return entry.changed + entry.dropped - (entry.reasons["scored"] if self.counts is toxic else 0)


FLAG = {"action": "flag"}
CHECKS = (
    Check("Languages", "language", {}, "Of rows long enough to tell.", "No row is long enough to tell."),
    Check(
        "Inconsistencies", "inconsistencies", {"empty": "flag", "roles": "flag"},
        "Answers that may teach the wrong thing.", "None found.",
    ),
    Check("Quality", "quality", FLAG, "Rules for web text, on running text; else only loops.", "Every row passes."),
    Check(
        "Personal data", "personal", FLAG, "Kinds that were found; values are not kept.", "None found.", unit="values"
    ),
    Check("Toxicity", "toxic", FLAG, "By a lexicon with context; read it as a hint.", "None found.", toxic),
    Check("Groups of people", "groups", {}, "Who is named.", "No group is named.", groups),
)  # fmt: skip
