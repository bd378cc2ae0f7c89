"""Which words describe one group more than others: log-odds with a prior, and intervals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

Z95 = 1.959963984540054
"""Half the width of a 95 % interval, in standard errors."""


class LogOdds(NamedTuple):
    """How much more a word belongs to a group than to the others: log-odds ratio, its 95 % interval, z, times."""

    word: str
    log_odds: float
    low: float
    high: float
    z: float
    times: int


def log_odds(of_group: Mapping[str, int], of_others: Mapping[str, int], prior: float = 100.0) -> list[LogOdds]:
    """Log-odds ratios of the words of two counts, highest z first.

    The prior is Dirichlet, `prior` words spread as both counts together are, so that rare words are drawn to zero.
    Monroe, Colaresi and Quinn 2008, "Fightin' Words", equations 16, 18 and 22. Both counts empty: no words.
    """
    both = Counter(of_group) + Counter(of_others)
    total = sum(both.values())
    n_group, n_others = sum(of_group.values()), sum(of_others.values())
    found = []
    for word, count in both.items():
        alpha = prior * count / total
        ours, theirs = of_group.get(word, 0) + alpha, of_others.get(word, 0) + alpha
        rest_ours, rest_theirs = n_group + prior - ours, n_others + prior - theirs
        if rest_ours <= 0 or rest_theirs <= 0:  # the only word of both
            continue
        delta = math.log(ours / rest_ours) - math.log(theirs / rest_theirs)
        error = math.sqrt(1 / ours + 1 / theirs)
        low, high = delta - Z95 * error, delta + Z95 * error
        found.append(LogOdds(word, delta, low, high, delta / error, of_group.get(word, 0)))
    return sorted(found, key=lambda odds: (-odds.z, odds.word))


def mean_interval(values: Sequence[float]) -> tuple[float, float, float] | None:
    """(mean, low, high) at 95 % by the normal approximation; None for fewer than two values."""
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    half = Z95 * math.sqrt(variance / len(values))
    return mean, mean - half, mean + half


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a rate, Wilson's; (0, 1) for no trials."""
    if not trials:
        return 0.0, 1.0
    rate, z2 = successes / trials, Z95**2
    centre = (rate + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z95 / (1 + z2 / trials) * math.sqrt(rate * (1 - rate) / trials + z2 / (4 * trials**2))
    return max(centre - half, 0.0), min(centre + half, 1.0)
