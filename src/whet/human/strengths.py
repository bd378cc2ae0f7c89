"""Bradley-Terry strengths: P(i is preferred to j) = 1 / (1 + exp(s_j - s_i)), by maximum likelihood (choix).

Bradley and Terry 1952, "Rank analysis of incomplete block designs"; a tie counts as half a win for each. Unlike Elo's
it does not hang on the order of judgements.
"""

from __future__ import annotations

import numpy as np

from whet.errors import MissingExtra
from whet.evaluate.measure import Interval, resampled

PRIOR = 0.1
"""Wins added each way where some models never lost to the rest: then no finite strengths are likeliest."""
DRAWS = 1000
"""Of the bootstrap: each is a fit."""


def bounded(wins_MM: np.ndarray) -> bool:
    """Whether finite strengths are likeliest: from each model a chain of wins leads to each other (Ford 1957)."""
    models = len(wins_MM)
    reached_MM = np.linalg.matrix_power((wins_MM > 0) + np.eye(models), models)
    return bool((reached_MM > 0).all())


def strengths(wins_MM: np.ndarray) -> np.ndarray:
    """Log-strengths [M] with mean 0, from how often i was preferred to j. With the prior where they are not bounded."""
    try:
        import choix
    except ImportError:
        raise MissingExtra("choix", "serve", "Bradley-Terry") from None
    if not bounded(wins_MM):
        wins_MM = wins_MM + PRIOR * (1 - np.eye(len(wins_MM)))
    found_M = np.asarray(choix.ilsr_pairwise_dense(wins_MM, max_iter=1000))
    return np.asarray(found_M - found_M.mean())


def with_intervals(wins_QMM: np.ndarray, seed: int = 0) -> list[Interval]:
    """The strength of each model with its 95 % percentile bootstrap interval over prompts. `wins_QMM` by prompt: what
    several judges said of one prompt stays together."""
    prompts, models = wins_QMM.shape[:2]
    value_M = strengths(wins_QMM.sum(0))
    wins_BMM = resampled(wins_QMM.reshape(prompts, -1), seed)[:DRAWS].reshape(-1, models, models)
    drawn_BM = np.stack([strengths(wins_MM) for wins_MM in wins_BMM])
    low_M, high_M = np.quantile(drawn_BM, [0.025, 0.975], axis=0)
    return [Interval(float(v), float(low), float(high)) for v, low, high in zip(value_M, low_M, high_M, strict=True)]
