"""`perplexity`: how likely each row is under a model, in bits a byte; the least and the most likely may be dropped."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from whet.data.curation.contract import Decision, Record, Rows, SetStep
from whet.data.curation.texts import joined, prompt_and_answer
from whet.errors import RecipeError
from whet.recipe.part import Part

BATCH = 256
"""Texts that are scored together."""
Share = Annotated[float, Field(ge=0, lt=1)]


class PerplexitySettings(Part):
    """Which model judges, and which rows are dropped. Every row gets a column `bits_per_byte`."""

    model: str = "whet-tiny"
    """A name or a folder, as in `whet train model=`. Of the kind of text that is looked for: what it never saw it finds
    unlikely."""
    part: Literal["row", "answer"] = "row"
    """What is scored: all texts of a row, or its answer alone (rows without one are not judged)."""
    min: float | None = None
    max: float | None = None
    """Rows below or above are dropped. By whet-tiny, English prose has 1 to 2 bits a byte, broken encodings and random
    letters 6 and more; names and rare words lie between."""
    drop_lowest: Share = 0.0
    drop_highest: Share = 0.0
    """These shares of rows are dropped."""


class Perplexity(SetStep):
    """Score rows by a language model and drop those outside bounds or quantiles."""

    settings = PerplexitySettings

    def __init__(self, settings: Any, context: Any) -> None:
        super().__init__(settings, context)
        if "perplexity" not in context.services:
            raise RecipeError(
                "there is no model to score with",
                where="perplexity",
                do="run `whet data perplexity`, or in Python curate(..., perplexity=whet.evaluate.texts.bits_per_byte)",
            )

    def schema(self) -> pa.Schema:
        return pa.schema([])

    def decide(self, features: Any, rows: Rows) -> Decision:
        score = self.context.services["perplexity"]
        bits = np.full(rows.count, np.nan)
        for batch in _batches(rows.records()):
            texts = [self._text(record) for record in batch]
            at = [place for place, text in enumerate(texts) if text.strip()]
            scores = score([texts[place] for place in at], model=self.set.model) if at else []
            for place, value in zip(at, scores, strict=True):
                bits[batch[place].number] = np.nan if value is None else round(float(value), 4)
        return self._decided(bits)

    def _text(self, record: Record) -> str:
        if self.set.part == "row":
            return joined(record.row, self.context.columns)
        both = prompt_and_answer(record.row, self.context.prompt_columns, self.context.answer_columns)
        return both[1] if both else ""

    def _decided(self, bits: np.ndarray) -> Decision:
        judged = bits[~np.isnan(bits)]
        lowest, highest = bounds(judged, self.set)
        with np.errstate(invalid="ignore"):  # rows that are not judged stay
            low, high = bits < lowest, bits > highest
        decision = Decision(~(low | high))
        for reason, which in (("too likely", low), ("too unlikely", high)):
            for index in np.flatnonzero(which).tolist():
                decision.why[index] = (reason, f"{bits[index]:.4f} bits a byte")
        decision.columns = {
            index: {"bits_per_byte": None if np.isnan(value) else value} for index, value in enumerate(bits.tolist())
        }
        decision.notes = {"model": self.set.model, "judged": len(judged)}
        if len(judged):
            at = np.quantile(judged, [0.05, 0.5, 0.95]).round(3).tolist()
            decision.notes["bits a byte"] = dict(zip(("5 %", "median", "95 %"), at, strict=True))
        return decision


def bounds(bits: np.ndarray, settings: PerplexitySettings) -> tuple[float, float]:
    """The narrowest bounds that the settings ask for: their own, and the quantiles of what was judged."""
    lowest = [-np.inf] if settings.min is None else [settings.min]
    highest = [np.inf] if settings.max is None else [settings.max]
    if len(bits) and settings.drop_lowest:
        lowest.append(float(np.quantile(bits, settings.drop_lowest)))
    if len(bits) and settings.drop_highest:
        highest.append(float(np.quantile(bits, 1 - settings.drop_highest)))
    return max(lowest), min(highest)


def _batches(records: Iterator[Record]) -> Iterator[list[Record]]:
    while batch := list(islice(records, BATCH)):
        yield batch
