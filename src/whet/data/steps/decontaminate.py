"""`decontaminate`: rows that contain a piece of an evaluation set are dropped, or flagged.

Runs of 13 words, case folded and without punctuation, as for GPT-3 (Brown et al. 2020, appendix C); texts of 8 to 12
words whole; shorter questions by themselves or with their options (near/contamination.py says exactly how).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from whet.data.curation.contract import Outcome, Record, RowStep
from whet.data.curation.held_out import check_paths, held_out_stage
from whet.data.curation.texts import texts_of
from whet.data.near.contamination import Index
from whet.errors import RowError
from whet.recipe.part import Part


class DecontaminateSettings(Part):
    """Of what rows must be free."""

    against: Annotated[list[str], Field(min_length=1)]
    """The evaluation files, of any format. They are not changed."""
    columns: list[str] = []
    """The columns of the evaluation files that count, the question first. None: those that hold text, in order."""
    ngram: Annotated[int, Field(ge=2, le=256)] = 13
    """So many words in a run, the same in both, are a piece."""
    shortest: Annotated[int, Field(ge=1)] = 8
    """An evaluation text of so many words, but fewer than `ngram`, is looked for whole. Fewer are no evidence alone."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.8
    """A question under `shortest` words counts in a row that has this share of the question's other texts too."""
    action: Literal["drop", "flag"] = "drop"
    """Drop the row, or write what it contains into its column `contaminated`."""


class Decontaminate(RowStep):
    """Drop rows that contain a piece of an evaluation set."""

    settings = DecontaminateSettings

    def __init__(self, settings: Any, context: Any) -> None:
        super().__init__(settings, context)
        check_paths(settings.against)
        self.index: Index | None = None
        self.places: list[str] = []

    def __call__(self, records: Sequence[Record]) -> list[Outcome]:
        if self.index is None:
            self.index = self._read()
        columns = self.context.columns
        found = self.index.find([[text for _, text in texts_of(record.row, columns)] for record in records])
        outcomes = []
        for record, piece in zip(records, found, strict=True):
            if piece is None:
                outcomes.append(Outcome(record.row))
                continue
            detail = f"{self.places[piece.row]}, {piece.words} words"
            row = None if self.set.action == "drop" else {**record.row, "contaminated": detail}
            outcomes.append(Outcome(row, ("in an evaluation set",), detail))
        return outcomes

    def _read(self) -> Index:
        with tempfile.TemporaryDirectory(prefix="whet-") as folder:
            stage, _ = held_out_stage(self.set.against, Path(folder) / "evaluation")
            columns = tuple(self.set.columns)
            self.places = [place for _, place, _ in stage.lines()]
            rows = ([text for _, text in texts_of(record.row, columns)] for record in stage.records())
            index = Index(rows, self.set.ngram, self.set.shortest, self.set.share)
        if index.empty:
            raise RowError(
                f"no text{' in ' + ', '.join(columns) if columns else ''}", where=", ".join(self.set.against),
                do="name the columns of the evaluation files: columns=[question]",
            )  # fmt: skip
        return index
