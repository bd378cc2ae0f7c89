"""`toxic`: how toxic a row is, and in what way; flagged, dropped or given less weight (docs/toxicity.md).

By the lexicon in the package, or by a classifier that `whet data toxic-train` made of labelled rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from whet.data.curation.contract import Outcome, Record, Row, RowStep
from whet.data.curation.texts import joined, prompt_and_answer
from whet.data.toxicity.scorers import scorer
from whet.recipe.part import Part

TURN = "\n\nAssistant:"
"""What an answer in a transcript begins with ("Human: ... Assistant: ...")."""


class ToxicSettings(Part):
    """Who judges what, and what becomes of a row."""

    scorer: str = "lexicon"
    """lexicon, or the folder of a classifier made by `whet data toxic-train`."""
    terms: str | None = None
    """A file of terms beside the lexicon's own, in the form of its terms.txt."""
    part: Literal["answer", "prompt", "all"] = "answer"
    """What is judged. A toxic prompt with a good answer is often wanted. Rows without both are judged whole."""
    above: Annotated[float, Field(gt=0, le=1)] = 0.5
    """A row is toxic from this toxicity on."""
    action: Literal["flag", "drop", "weight"] = "flag"
    """flag: every row gets `toxicity` and `toxic`. drop: toxic rows go. weight: flag, and toxic rows weigh less."""
    weight: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """With `action: weight`: what `weight` (1 where there is none) of a toxic row is multiplied by."""


class Toxic(RowStep):
    """Score how toxic rows are; flag, drop or weigh them down."""

    settings = ToxicSettings

    def __init__(self, settings: Any, context: Any) -> None:
        super().__init__(settings, context)
        self.scorer = scorer(settings.scorer, settings.terms)

    def __call__(self, records: Sequence[Record]) -> list[Outcome]:
        texts = [part_of(record.row, self.set.part, self.context.columns) for record in records]
        scored = self.scorer(texts)
        return [self._outcome(record.row, *found) for record, found in zip(records, scored, strict=True)]

    def _outcome(self, row: Row, toxicity: float, kinds: list[str]) -> Outcome:
        toxic = toxicity >= self.set.above
        reasons = tuple(kinds or ["toxic"]) if toxic else ("scored",)
        detail = f"toxicity {toxicity:.2f}" if toxic else ""
        if self.set.action == "drop":
            return Outcome(None, reasons, detail) if toxic else Outcome(row)
        changed = row | {"toxicity": round(toxicity, 4), "toxic": kinds if toxic else []}
        if toxic and self.set.action == "weight":
            before = row.get("weight")
            changed["weight"] = self.set.weight * (1.0 if before is None else float(before))
        return Outcome(changed, reasons, detail)


def part_of(row: Row, part: str, columns: tuple[str, ...] = ()) -> str:
    """The text to judge. `chosen` is the answer of a row of preferences; of a transcript, its last turn is.

    Columns that the user named are judged whole, whatever `part` says, unless they hold a transcript.
    """
    if part == "all":
        return joined(row, columns)
    both = ("", joined(row, columns)) if columns else prompt_and_answer(row)
    if both is None:
        return joined(row)
    prompt, answer = both
    before, turn, last = answer.rpartition(TURN)
    if turn:
        prompt, answer = f"{prompt}\n\n{before}".strip(), last
    return prompt if part == "prompt" and (prompt or not columns) else answer
