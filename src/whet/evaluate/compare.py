"""Two models on the same rows, honestly: paired differences with their intervals, and rows won and lost.

interval   paired bootstrap over rows (Koehn 2004, "Statistical significance tests for machine translation evaluation")
p          two-sided: twice the share of resamples on the other side of zero
McNemar    for metrics that are right or wrong a row: exact binomial test of the rows on which the two differ
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from whet.errors import RowError
from whet.evaluate.measure import Interval, Measured, resampled
from whet.evaluate.run import Evaluation

SIGNIFICANT = 0.02
"""A difference counts where p is less: of a hundred comparisons of equals, two are called different."""
CHANGED = 10


@dataclass(frozen=True)
class Difference:
    """Of one metric: B less A. `better` is 1 where B is, -1 where A is, 0 within noise, None for a metric of no
    direction. Rows are won by B, lost or tied; `mcnemar` is None for values that are not 0 or 1."""

    name: str
    a: float
    b: float
    interval: Interval
    p: float
    better: int | None
    won: int
    lost: int
    tied: int
    mcnemar: float | None

    @property
    def verdict(self) -> str:
        """In words."""
        if self.better is None:
            return "different" if self.p < SIGNIFICANT else "within noise"
        return {1: "better", -1: "worse", 0: "within noise"}[self.better]


@dataclass(frozen=True)
class Comparison:
    """All metrics that both evaluations have, and the rows whose values changed most, by metric."""

    a: str
    b: str
    data: str
    rows: int
    differences: list[Difference]
    changed: dict[str, list[dict[str, Any]]]


def compare(a: Evaluation, b: Evaluation, seed: int = 0) -> Comparison:
    """Raises RowError where the two were not made on the same rows."""
    if a.columns["place"] != b.columns["place"]:
        raise RowError(f"{a.rows:,} and {b.rows:,} rows that are not the same", do="evaluate both on one file")
    pairs = [(one, two) for one in a.measured for two in b.measured if one.name == two.name]
    return Comparison(
        a.model, b.model, a.data, a.rows, [difference(one, two, seed) for one, two in pairs],
        {one.name: _changed(one, two, a, b) for one, two in pairs},
    )  # fmt: skip


def difference(a: Measured, b: Measured, seed: int = 0) -> Difference:
    """B less A, paired by row."""
    figures_a, figures_b = (one.figures(resampled(one.stats_RK, seed), len(one.values_R)) for one in (a, b))
    drawn = figures_b - figures_a
    drawn = drawn[~np.isnan(drawn)]
    value = b.value() - a.value()
    low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (math.nan, math.nan)
    p = _two_sided(drawn)
    gain_R = (b.values_R - a.values_R) * (1 if a.higher in (True, None) else -1)
    there = gain_R[~np.isnan(gain_R)]
    won, lost = int((there > 1e-12).sum()), int((there < -1e-12).sum())
    binary = np.isin(np.concatenate([a.values_R, b.values_R]), (0.0, 1.0)).all()
    sign = int(np.sign(value)) * (1 if a.higher else -1)
    better = None if a.higher is None else sign if p < SIGNIFICANT else 0
    mcnemar = exact_binomial(won, lost) if binary else None
    found = Interval(value, float(low), float(high))
    return Difference(a.name, a.value(), b.value(), found, p, better, won, lost, len(there) - won - lost, mcnemar)


def exact_binomial(won: int, lost: int) -> float:
    """p of McNemar's exact test, two-sided: that `won` and `lost` come of a fair coin."""
    total, few = won + lost, min(won, lost)
    if not total:
        return 1.0
    log = [math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1) for k in range(few + 1)]
    tail = math.fsum(math.exp(value - total * math.log(2)) for value in log)
    return min(1.0, 2 * tail)


def _two_sided(drawn: np.ndarray) -> float:
    """Of a bootstrap's differences; one more on either side, so that p is never 0 (Davison and Hinkley 1997)."""
    if not len(drawn) or not drawn.any():
        return 1.0
    below, above = (drawn <= 0).sum() + 1, (drawn >= 0).sum() + 1
    return min(1.0, 2 * float(min(below, above)) / (len(drawn) + 1))


def _changed(one: Measured, two: Measured, a: Evaluation, b: Evaluation) -> list[dict[str, Any]]:
    gap_R = np.nan_to_num(two.values_R - one.values_R)
    most: Sequence[int] = np.argsort(-np.abs(gap_R), kind="stable")[:CHANGED].tolist()
    return [
        {
            "place": a.columns["place"][n], "a": float(one.values_R[n]), "b": float(two.values_R[n]),
            "answer_a": a.columns.get("completion", [""] * a.rows)[n],
            "answer_b": b.columns.get("completion", [""] * b.rows)[n],
        }
        for n in most if gap_R[n]
    ]  # fmt: skip
