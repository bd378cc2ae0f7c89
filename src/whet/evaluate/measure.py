"""A figure over rows, with its interval.

Every figure here is a function of sums over rows, so that a bootstrap is one matrix product: a mean of the rows'
values, BLEU of their n-gram counts, macro-F1 of their cells in the confusion matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95

Figure = Callable[[np.ndarray, float], float]
"""(sums of the rows' statistics [K], number of rows) -> the figure."""


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % percentile bootstrap interval over rows (Efron 1979)."""

    value: float
    low: float
    high: float

    def plain(self) -> dict[str, float | None]:
        """As JSON has it; what is no number is null."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        return {name: number if math.isfinite(number) else None for name, number in numbers.items()}


@dataclass(frozen=True)
class Measured:
    """A metric's outcome on rows. `stats_RK` [rows, K] are what its figure is made of, `values_R` what the metric says
    of a single row (NaN where it says nothing). `higher` tells which way is better, None for neither."""

    name: str
    stats_RK: np.ndarray
    figure: Figure
    values_R: np.ndarray
    higher: bool | None = True
    notes: dict[str, Any] = field(default_factory=dict)

    def value(self, rows: np.ndarray | None = None) -> float:
        """The figure over all rows, or those where `rows` [R] is true."""
        stats_RK = self.stats_RK if rows is None else self.stats_RK[rows]
        return float(self.figure(stats_RK.sum(0), len(stats_RK))) if len(stats_RK) else math.nan

    def interval(self, seed: int = 0, rows: np.ndarray | None = None) -> Interval:
        """The figure with its interval."""
        stats_RK = self.stats_RK if rows is None else self.stats_RK[rows]
        if len(stats_RK) < 2:
            value = self.value(rows)
            return Interval(value, value, value)
        drawn = self.resampled(resamples(len(stats_RK), seed), stats_RK)
        if np.isnan(drawn).all():
            return Interval(math.nan, math.nan, math.nan)
        low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Interval(self.value(rows), float(low), float(high))

    def resampled(self, counts_BR: np.ndarray, stats_RK: np.ndarray | None = None) -> np.ndarray:
        """The figure of each resample [B]; `counts_BR` says how often each row was drawn."""
        sums_BK = counts_BR @ (self.stats_RK if stats_RK is None else stats_RK)
        sizes_B = counts_BR.sum(1)
        with np.errstate(all="ignore"):
            return np.array([self.figure(s, n) for s, n in zip(sums_BK, sizes_B, strict=True)])


def resamples(rows: int, seed: int, count: int = RESAMPLES) -> np.ndarray:
    """[count, rows] float32: how often each row is drawn when as many rows as there are are drawn with replacement."""
    draw = np.random.default_rng(seed)
    return draw.multinomial(rows, np.full(rows, 1 / rows), size=count).astype(np.float32)


def mean_of(name: str, values: Sequence[float], higher: bool | None = True, **notes: Any) -> Measured:
    """The mean of the rows' values; a row whose value is NaN (or None) does not count."""
    values_R = np.array([math.nan if value is None else value for value in values], dtype=np.float64)
    there_R = ~np.isnan(values_R)
    stats_R2 = np.stack([np.where(there_R, values_R, 0.0), there_R], axis=1)
    return Measured(name, stats_R2, _mean, values_R, higher, notes)


def _mean(sums: np.ndarray, rows: float) -> float:
    return float(sums[0] / sums[1]) if sums[1] else math.nan
