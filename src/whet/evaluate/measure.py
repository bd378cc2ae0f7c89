"""A figure over rows, with its interval.

Every figure here is a function of sums over rows, so that a bootstrap is one matrix product: a mean of the rows'
values, BLEU of their n-gram counts, macro-F1 of their cells in the confusion matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95
CELLS = 8_000_000
"""Of the matrix of draws that are held at once."""

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
        drawn = self.figures(resampled(stats_RK, seed), len(stats_RK))
        if np.isnan(drawn).all():
            return Interval(math.nan, math.nan, math.nan)
        low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Interval(self.value(rows), float(low), float(high))

    def figures(self, sums_BK: np.ndarray, rows: int) -> np.ndarray:
        """The figure of each resample [B] of so many rows, from its sums."""
        with np.errstate(all="ignore"):
            return np.array([self.figure(sums, rows) for sums in sums_BK])


def resampled(stats_RK: np.ndarray, seed: int) -> np.ndarray:
    """[RESAMPLES, K]: the sums of the statistics over as many rows as there are, drawn with replacement. The same seed
    draws the same rows whatever the statistics, so that two models are compared on the same resamples."""
    rows = len(stats_RK)
    blocks = range(0, RESAMPLES, max(1, CELLS // rows))
    sums = [draws(rows, seed, number, min(CELLS // rows or 1, RESAMPLES - number)) @ stats_RK for number in blocks]
    return np.concatenate(sums)


@lru_cache(maxsize=4)
def draws(rows: int, seed: int, block: int, count: int) -> np.ndarray:
    """[count, rows] float32: how often each row is drawn."""
    draw = np.random.default_rng([seed, block])
    return draw.multinomial(rows, np.full(rows, 1 / rows), size=count).astype(np.float32)


def mean_of(name: str, values: Sequence[float], higher: bool | None = True, **notes: Any) -> Measured:
    """The mean of the rows' values; a row whose value is NaN (or None) does not count."""
    values_R = np.array([math.nan if value is None else value for value in values], dtype=np.float64)
    there_R = ~np.isnan(values_R)
    stats_R2 = np.stack([np.where(there_R, values_R, 0.0), there_R], axis=1)
    return Measured(name, stats_R2, _mean, values_R, higher, notes)


def _mean(sums: np.ndarray, rows: float) -> float:
    return float(sums[0] / sums[1]) if sums[1] else math.nan


def exact_binomial(won: int, lost: int) -> float:
    """p of the exact binomial test (McNemar's), two-sided: that `won` and `lost` come of a fair coin."""
    total, few = won + lost, min(won, lost)
    if not total:
        return 1.0
    log = [math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1) for k in range(few + 1)]
    tail = math.fsum(math.exp(value - total * math.log(2)) for value in log)
    return min(1.0, 2 * tail)
