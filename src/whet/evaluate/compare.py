"""Two models on the same rows, honestly: paired differences with their intervals, and rows won and lost.

interval   paired bootstrap over rows (Koehn 2004, "Statistical significance tests for machine translation evaluation")
p          two-sided: twice the share of resamples on the other side of zero
McNemar    for metrics that are right or wrong a row: exact binomial test of the rows on which the two differ
judge      a model that prefers one of two answers, asked both ways round: see whet.evaluate.judge
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from whet.errors import RowError
from whet.evaluate.judge import TOLD, Judge, Verdicts
from whet.evaluate.measure import Interval, Measured, exact_binomial, mean_of, resampled
from whet.evaluate.run import Evaluation, asked_of
from whet.rows import named

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
    """All metrics that both evaluations have, and the rows whose values changed most, by metric. `judged` is what a
    judge of the pairs says of itself."""

    a: str
    b: str
    data: str
    rows: int
    differences: list[Difference]
    changed: dict[str, list[dict[str, Any]]]
    judged: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def compare(
    a: Evaluation,
    b: Evaluation,
    seed: int = 0,
    judge: Judge | None = None,
    done: Callable[[str, int, int], None] = lambda what, rows, of: None,
) -> Comparison:
    """Both must have answers where there is a `judge`. Raises RowError where the two were not made on the same rows,
    ModelError where the judge's endpoint fails."""
    if a.columns["place"] != b.columns["place"]:
        raise RowError(f"{a.rows:,} and {b.rows:,} rows that are not the same", do="evaluate both on one file")
    pairs = [(one, two) for one in a.measured for two in b.measured if one.name == two.name]
    judged, notes = {}, []
    if judge is not None:
        verdicts = judge.verdicts(asked_of(a.examples), a.columns["completion"], b.columns["completion"], done)
        pairs.append(_preferred(verdicts))
        judged, notes = _of_judge(judge, verdicts), _judge_notes(verdicts)
    return Comparison(
        a.model, b.model, a.data, a.rows, [difference(one, two, seed) for one, two in pairs],
        {one.name: _changed(one, two, a, b) for one, two in pairs}, judged, notes,
    )  # fmt: skip


def _preferred(verdicts: Verdicts) -> tuple[Measured, Measured]:
    """Of each side the share of rows that it won, a tie counting half."""
    share_R = (verdicts.outcome_R + 1) / 2
    return mean_of("preferred", (1 - share_R).tolist()), mean_of("preferred", share_R.tolist())


def _of_judge(judge: Judge, verdicts: Verdicts) -> dict[str, Any]:
    """As JSON has it. `p_of_place` is the exact binomial of the rows where both orders preferred one place."""
    return {
        "model": judge.part.model, "endpoint": judge.part.endpoint, "rubric": judge.part.rubric,
        "judged": verdicts.judged, "agreement_of_orders": verdicts.agreement,
        "preferred_first_place_twice": verdicts.first, "preferred_second_place_twice": verdicts.second,
        "p_of_place": exact_binomial(verdicts.first, verdicts.second), "requests": verdicts.counts,
        "without_verdict": len(verdicts.missing), "first": dict(list(verdicts.missing.items())[:TOLD]),
    }  # fmt: skip


def _judge_notes(verdicts: Verdicts) -> list[str]:
    p = exact_binomial(verdicts.first, verdicts.second)
    bias = "a bias of the judge" if p < SIGNIFICANT else "within noise"
    said = [
        f"judge: the two orders agree on {verdicts.agreement:.0%} of {verdicts.judged:,} rows; where they do not it is "
        f"a tie. The first place won both times on {verdicts.first:,} rows, the second on {verdicts.second:,}: {bias} "
        f"(p {p:.2g})"
    ]
    if verdicts.missing:
        reasons = ", ".join(sorted(set(verdicts.missing.values())))
        said.append(f"judge: no verdict on {len(verdicts.missing):,} rows ({reasons}): {named(list(verdicts.missing))}")
    return said


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
