"""What a stream of rows adds up to: kinds, columns, lengths, values, examples. One pass, in bounded memory."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from whet.data.curation.contract import Context
from whet.data.curation.texts import joined, prompt_and_answer
from whet.data.formats import kind_of_value
from whet.data.shapes import recognise
from whet.errors import RowError

Row = dict[str, Any]
MANY = 200
"""A column with more values than this is not counted by value."""
LONGEST_VALUE = 60
EXAMPLES = 5
BATCH = 1000

CountTokens = Callable[[Sequence[str]], Sequence[int]]


@dataclass
class Column:
    """One column: in how many rows, of which types, and how often each value, while they are few and short."""

    rows: int = 0
    types: Counter[str] = field(default_factory=Counter)
    values: Counter[str] | None = field(default_factory=Counter)

    def add(self, value: Any) -> None:
        """Count one row's value."""
        self.rows += 1
        self.types[kind_of_value(value).removeprefix("a ").removeprefix("an ")] += 1
        if self.values is None:
            return
        short = isinstance(value, (bool, int)) or (isinstance(value, str) and len(value) <= LONGEST_VALUE)
        if short:
            self.values[str(value)] += 1
        if not short or len(self.values) > MANY:
            self.values = None

    def balance(self, rows: int) -> Counter[str] | None:
        """The values and their rows, where the column sorts rows into a few kinds; None where it does not."""
        few = self.values is not None and 2 <= len(self.values) <= max(2, min(MANY, rows // 4))
        return self.values if few and self.rows >= rows / 2 else None


@dataclass
class Tally:
    """All of it. Lengths [rows] are tokens where a tokenizer was lent, else words; -1 where there is no such part."""

    unit: str
    rows: int = 0
    characters: int = 0
    shapes: Counter[str] = field(default_factory=Counter)
    columns: dict[str, Column] = field(default_factory=dict)
    turns: list[int] = field(default_factory=list)
    prompt: list[int] = field(default_factory=list)
    answer: list[int] = field(default_factory=list)
    whole: list[int] = field(default_factory=list)
    examples: list[Row] = field(default_factory=list)

    def add(self, rows: Sequence[Row], context: Context, count_tokens: CountTokens) -> None:
        """Count a batch of rows."""
        pairs = [prompt_and_answer(row, context.prompt_columns, context.answer_columns) for row in rows]
        wholes = [joined(row, context.columns) for row in rows]
        texts = [part for pair in pairs for part in (pair or ("", ""))] + wholes
        lengths = list(count_tokens(texts))
        for number, (row, pair, whole) in enumerate(zip(rows, pairs, wholes, strict=True)):
            self.prompt.append(lengths[2 * number] if pair else -1)
            self.answer.append(lengths[2 * number + 1] if pair else -1)
            self.whole.append(lengths[2 * len(rows) + number])
            self.characters += len(whole)
            self._row(row)
        self.rows += len(rows)

    def _row(self, row: Row) -> None:
        self.shapes[shape_of(row)] += 1
        for name, value in row.items():
            if value is not None:
                self.columns.setdefault(name, Column()).add(value)
        turns = row.get("messages") or row.get("conversations")
        if isinstance(turns, list):
            self.turns.append(len(turns))

    def quantiles(self, lengths: list[int]) -> dict[str, int]:
        """Least, quartiles, 95th and 99th percentile, most; empty where there is none."""
        there = np.array([length for length in lengths if length >= 0])
        if not len(there):
            return {}
        names = {"least": 0, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95, "99 %": 0.99, "most": 1}
        return {name: int(np.quantile(there, share, method="nearest")) for name, share in names.items()}


def shape_of(row: Row) -> str:
    """The name of the row's shape, preferences first; "unmapped" where training would ask for `data.columns`."""
    filled = {name: value for name, value in row.items() if value is not None}
    for objective in ("dpo", "kto", "sft"):
        try:
            return recognise(filled, objective, "").name
        except RowError:
            continue
    return "unmapped"


def tally(rows: Iterable[Row], context: Context, count_tokens: CountTokens | None) -> Tally:
    """Count all rows; examples are drawn by the context's seed, each row with the same chance (reservoir sampling)."""
    found = Tally("tokens" if count_tokens else "words")
    draw = random.Random(context.seed)
    batch: list[Row] = []
    counter = count_tokens or words
    for number, row in enumerate(rows):
        batch.append(row)
        if len(batch) == BATCH:
            found.add(batch, context, counter)
            batch = []
        at = number if number < EXAMPLES else draw.randint(0, number)
        if number < EXAMPLES:
            found.examples.append(row)
        elif at < EXAMPLES:
            found.examples[at] = row
    if batch:
        found.add(batch, context, counter)
    return found


def words(texts: Sequence[str]) -> list[int]:
    """Words by blanks, for where no tokenizer is lent."""
    return [len(text.split()) for text in texts]
