from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from whet.human.strengths import bounded, strengths, with_intervals


def test_two_models_differ_by_the_log_of_their_odds() -> None:
    assert strengths(np.array([[0.0, 30.0], [20.0, 0.0]])) == pytest.approx(
        np.log(1.5) / 2 * np.array([1, -1]), abs=1e-7
    )


def test_strengths_are_those_of_a_logistic_regression() -> None:
    """Bradley-Terry is one, of +1 for the first model and -1 for the second, without an intercept."""
    wins_MM = np.random.default_rng(0).integers(1, 40, (4, 4)) * (1 - np.eye(4))
    rows, weights = [], []
    for i, j in zip(*np.nonzero(wins_MM), strict=True):
        row = np.zeros(4)
        row[i], row[j] = 1, -1
        rows += [row, -row]
        weights += [wins_MM[i, j]] * 2
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=10_000)
    fitted = model.fit(rows, [1, 0] * (len(rows) // 2), sample_weight=weights).coef_[0]
    assert strengths(wins_MM) == pytest.approx(fitted - fitted.mean(), abs=3e-4)


def test_models_that_never_lost_have_no_bound_and_get_the_prior() -> None:
    circle = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]], float)
    assert bounded(circle)
    assert not bounded(np.triu(np.ones((3, 3)), 1))
    never = np.array([[0.0, 7.0], [0.0, 0.0]])
    assert not bounded(never)
    assert strengths(never) == pytest.approx(np.log(7.1 / 0.1) / 2 * np.array([1, -1]), abs=1e-6)


def test_the_interval_is_that_of_drawing_prompts_one_by_one() -> None:
    draw = np.random.default_rng(0)
    first_Q = (draw.random(60) < 0.65).astype(float)
    wins_QMM = np.zeros((60, 2, 2))
    wins_QMM[:, 0, 1], wins_QMM[:, 1, 0] = first_Q, 1 - first_Q
    found = with_intervals(wins_QMM)[0]
    drawn = [first_Q[draw.integers(0, 60, 60)].mean() for _ in range(2000)]
    low, high = (np.log(p / (1 - p)) / 2 for p in np.quantile(drawn, [0.025, 0.975]))
    assert (found.low, found.high) == (pytest.approx(low, abs=0.06), pytest.approx(high, abs=0.06))
    assert found.value == pytest.approx(np.log(first_Q.mean() / (1 - first_Q.mean())) / 2, abs=1e-6)
