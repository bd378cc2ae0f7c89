"""`quality`: rows whose text breaks the published rules of web corpora (Gopher, C4, FineWeb), or, in answers, loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from whet.data.curation.contract import Outcome, Record, Row, RowStep
from whet.data.curation.texts import joined, prompt_and_answer, text_columns
from whet.data.steps.quality_rules import C4, RULES, FineWeb, Gopher, GopherRepetition, Loops, words_of
from whet.recipe.part import Part

RuleName = Literal["gopher", "gopher-repetition", "c4", "fineweb", "loops"]
FOR_TEXTS: tuple[RuleName, ...] = ("gopher", "gopher-repetition", "fineweb")
FOR_ANSWERS: tuple[RuleName, ...] = ("loops",)


class QualitySettings(Part):
    """Which rules are held, and what becomes of rows that break one."""

    rules: list[RuleName] = []
    """gopher, gopher-repetition, c4, fineweb, loops. None: what suits the row. Running text (one column of text, no
    label) is held to gopher, gopher-repetition and fineweb; all else, answers above all, to `loops` alone, as the
    published rules would drop what is short."""
    part: Literal["auto", "row", "answer"] = "auto"
    """What is judged: the whole text of a row, or its answer (rows without one are not judged). auto: the answer where
    `rules` is left to the row, else the whole."""
    action: Literal["drop", "flag"] = "drop"
    """flag: keep the row, with the rules it breaks in a column `quality`."""
    gopher: Gopher = Field(default_factory=Gopher)
    gopher_repetition: GopherRepetition = Field(default_factory=GopherRepetition)
    c4: C4 = Field(default_factory=C4)
    fineweb: FineWeb = Field(default_factory=FineWeb)
    loops: Loops = Field(default_factory=Loops)


class Quality(RowStep):
    """Drop or flag rows whose text breaks a rule. Reasons read `gopher: too few words`."""

    settings = QualitySettings

    def __call__(self, records: Sequence[Record]) -> list[Outcome]:
        return [self._judged(record.row) for record in records]

    def _judged(self, row: Row) -> Outcome:
        text, rules = self._judges(row)
        broken = tuple(broken_rules(text, rules, self.set)) if rules else ()
        if not broken:
            return Outcome(row)
        if self.set.action == "flag":
            return Outcome({**row, "quality": list(broken)}, broken)
        return Outcome(None, broken, ", ".join(broken))

    def _judges(self, row: Row) -> tuple[str, Sequence[RuleName]]:
        """What is judged of a row, and by which rules."""
        context = self.context
        both = None
        if self.set.part == "answer" or not self.set.rules:
            both = prompt_and_answer(row, context.prompt_columns, context.answer_columns)
        rules = self.set.rules or (FOR_TEXTS if not both and is_document(row, context.columns) else FOR_ANSWERS)
        if both and self.set.part != "row":
            return both[1], rules
        return ("", ()) if self.set.part == "answer" else (joined(row, context.columns), rules)


def is_document(row: Row, columns: tuple[str, ...] = ()) -> bool:
    """Whether a row is running text: one column of text, no turns, no label."""
    names = text_columns(row, columns)
    return len(names) == 1 and isinstance(row[names[0]], str) and "label" not in row


def broken_rules(text: str, rules: Sequence[RuleName], settings: QualitySettings | None = None) -> list[str]:
    """The rules that a text breaks, each as `gopher: too few words`."""
    settings = settings or QualitySettings()
    words = words_of(text)
    return [
        f"{name}: {broken}"
        for name in rules
        for broken in RULES[name](text, getattr(settings, name.replace("-", "_")), words)
    ]
