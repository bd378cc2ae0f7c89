"""From rewards to advantages: how much better an answer, or a token of it, was than expected."""

from __future__ import annotations

import numpy as np

EPSILON = 1e-4
"""Added to standard deviations, as TRL has it."""


def of_group(rewards_PG: np.ndarray, scale: bool = True) -> np.ndarray:
    """[P, G]: r - mean of the group, over its standard deviation (G - 1 in the denominator) where `scale`.

    Shao et al. 2024 (GRPO), arXiv 2402.03300, section 4.1.2; without the scale Liu et al. 2025 (Dr. GRPO), arXiv
    2503.20783, section 3.2. A group of equal rewards gives zeros: nothing is learnt from it.
    """
    centred_PG: np.ndarray = rewards_PG - rewards_PG.mean(1, keepdims=True)
    if not scale:
        return centred_PG
    return np.asarray(centred_PG / (rewards_PG.std(1, ddof=1, keepdims=True) + EPSILON))


def leave_one_out(rewards_PG: np.ndarray) -> np.ndarray:
    """[P, G]: r - mean of the group's other rewards. Ahmadian et al. 2024 (RLOO), arXiv 2402.14740, equation 8."""
    count = rewards_PG.shape[1]
    return np.asarray((rewards_PG * count - rewards_PG.sum(1, keepdims=True)) / (count - 1))


def over_batch(rewards_R: np.ndarray) -> np.ndarray:
    """[R]: (r - mean) / standard deviation, over the whole batch. Hu et al. 2025 (REINFORCE++), arXiv 2501.03262."""
    centred_R: np.ndarray = rewards_R - rewards_R.mean()
    return np.asarray(centred_R / (rewards_R.std(ddof=1) + EPSILON)) if len(rewards_R) > 1 else centred_R


def gae(rewards_T: np.ndarray, values_T: np.ndarray, gamma: float, lam: float) -> tuple[np.ndarray, np.ndarray]:
    """(advantages [T], returns [T]) of one answer, which ends after its last token.

    d_t = r_t + gamma V_{t+1} - V_t and A_t = d_t + gamma lam A_{t+1}, the return is A_t + V_t: Schulman et al. 2016,
    arXiv 1506.02438, equation 16. `values_T` is what is expected before each token.
    """
    advantages_T = np.zeros(len(rewards_T), np.float64)
    after, value_after = 0.0, 0.0
    for t in range(len(rewards_T) - 1, -1, -1):
        delta = rewards_T[t] + gamma * value_after - values_T[t]
        after = delta + gamma * lam * after
        advantages_T[t], value_after = after, float(values_T[t])
    return advantages_T, advantages_T + values_T


def whitened(numbers: list[np.ndarray]) -> list[np.ndarray]:
    """All of them less their mean, over their standard deviation."""
    joined = np.concatenate(numbers)
    mean, deviation = joined.mean(), joined.std()
    return [(one - mean) / (deviation + 1e-8) for one in numbers]
