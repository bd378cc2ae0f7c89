"""Perplexity and bits a byte, of rows of any length: what does not fit the model is scored by a sliding window.

perplexity     exp(-sum log p / targets)            compares models of one tokenizer
bits_per_byte  -sum log2 p / bytes of the text      compares any
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from whet.evaluate.score import Scorer
from whet.rows import Row


@dataclass(frozen=True)
class Scored:
    """One row: the sum of log p over its targets (nats, summed in float64), how many targets, bytes of their text, and
    in how many windows it was scored."""

    nats: float
    targets: int
    bytes: int
    windows: int

    @property
    def perplexity(self) -> float:
        return math.exp(min(-self.nats / self.targets, 700.0))

    @property
    def bits_per_byte(self) -> float:
        return -self.nats / math.log(2) / self.bytes if self.bytes else math.nan


def score_rows(
    scorer: Scorer,
    rows: Sequence[Row],
    bytes_R: Sequence[int],
    stride: int | None = None,
    done: Callable[[int], None] = lambda rows: None,
) -> list[Scored]:
    """Each row's score. A row longer than the model takes is cut into windows in which each target is scored once, with
    at least `max_length - stride` tokens before it (but for the row's own beginning); `stride` is half a window if
    None."""
    pieces: list[Row] = []
    owner: list[int] = []
    for index, row in enumerate(rows):
        found = windows(row, scorer.max_length, stride)
        pieces += found
        owner += [index] * len(found)
    sums = np.zeros(len(rows))
    count = np.zeros(len(rows), dtype=int)
    for index, logps in zip(owner, scorer.logps(pieces, done), strict=True):
        sums[index] += logps.astype(np.float64).sum()
        count[index] += 1
    return [
        Scored(float(total), row.target_count, size, int(several))
        for row, total, size, several in zip(rows, sums, bytes_R, count, strict=True)
    ]


def windows(row: Row, max_length: int | None, stride: int | None = None) -> list[Row]:
    """The row itself where it fits; else windows of `max_length` tokens that begin `stride` tokens apart, each scoring
    the targets that no window before it has. What every target's window holds before it is real context."""
    if max_length is None or len(row) <= max_length:
        return [row]
    step = min(stride or max_length // 2, max_length - 1)
    found, scored = [], 0
    for begin in range(0, len(row), step):
        end = min(begin + max_length, len(row))
        targets = row.targets[begin:end].copy()
        targets[: max(scored - begin, 1 if begin else 0)] = False  # nothing predicts a window's first token
        piece = Row(row.ids[begin:end], targets, row.weight, row.group, row.role, row.place)
        if piece.target_count:
            found.append(piece)
        scored = end
        if end == len(row):
            break
    return found


def total(scored: Sequence[Scored]) -> dict[str, float]:
    """loss (nats a target), perplexity and bits_per_byte over all rows, every target alike."""
    nats = math.fsum(row.nats for row in scored)
    targets, size = sum(row.targets for row in scored), sum(row.bytes for row in scored)
    loss = -nats / targets if targets else math.nan
    figures = {"loss": loss, "perplexity": math.exp(min(loss, 700.0)) if targets else math.nan}
    return figures | ({"bits_per_byte": -nats / math.log(2) / size} if size else {})
