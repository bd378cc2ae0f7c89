"""Which of several ways is good enough and cheapest: intervals, and the rule."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_T = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228]
"""Student's t, two-sided 95 %, of 1 to 10 degrees of freedom."""
DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, and where it lies with 95 % confidence; `low` and `high` are the mean itself for a single value."""

    mean: float
    low: float
    high: float


def over_seeds(values: Sequence[float]) -> Interval:
    """Student's t interval of the mean over seeds."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Interval(mean, mean, mean)
    t = _T[len(values) - 2] if len(values) - 2 < len(_T) else 1.96
    half = t * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


@dataclass(frozen=True)
class Contender:
    """A way to adapt, and what it made of the held-out rows. `logps_SR` [S, R]: of each seed and held-out row, the sum
    of log-probabilities; `targets_R` [R]. `cost` orders contenders: trained parameters, few-shot above zero-shot."""

    name: str
    cost: float
    logps_SR: np.ndarray
    targets_R: np.ndarray

    @property
    def loss(self) -> float:
        """Nats a target, mean over seeds."""
        return float(-self.logps_SR.sum(1).mean() / self.targets_R.sum())


def worse_by(one: Contender, other: Contender, seed: int = 0) -> Interval:
    """How much higher the held-out loss of `one` is, in nats a target, with the 95 % interval of a bootstrap over rows
    and seeds: rows are drawn in pairs, as both were measured on the same; seeds of each apart."""
    draw = np.random.default_rng(seed)
    seeds, rows = (len(each.logps_SR) for each in (one, other)), len(one.targets_R)
    first, second = (draw.integers(0, count, (DRAWS, count)) for count in seeds)
    differences = np.empty(DRAWS)
    for i in range(DRAWS):
        at = draw.integers(0, rows, rows)
        nats = other.logps_SR[second[i]][:, at].sum(1).mean() - one.logps_SR[first[i]][:, at].sum(1).mean()
        differences[i] = nats / one.targets_R[at].sum()
    low, high = np.quantile(differences, [0.025, 0.975])
    return Interval(one.loss - other.loss, float(low), float(high))


def recommend(contenders: Sequence[Contender]) -> tuple[Contender, dict[str, Interval]]:
    """The cheapest that is not worse than the best beyond the noise, and how much worse each is than the best.

    "Beyond the noise": the whole interval of `worse_by` lies above zero.
    """
    best = min(contenders, key=lambda each: each.loss)
    behind = {each.name: worse_by(each, best) for each in contenders if each is not best}
    good = [each for each in contenders if each is best or behind[each.name].low <= 0]
    return min(good, key=lambda each: each.cost), {best.name: Interval(0.0, 0.0, 0.0), **behind}
