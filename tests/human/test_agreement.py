from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from whet.human.agreement import alpha, alpha_interval, coincidences, kappa

NO = math.nan
FOUR_OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NO, NO, NO],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NO, 3],
        [NO, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NO],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NO],
    ]
)


def of(values_JU: np.ndarray, values: list[float], level: str = "nominal") -> float:
    return alpha(coincidences(values_JU, values), values, level)


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_many_observers_with_gaps_is_krippendorffs(level: str, published: float) -> None:
    """Krippendorff 2011, example C and its metrics."""
    assert of(FOUR_OBSERVERS, [1, 2, 3, 4, 5], level) == pytest.approx(published, abs=5e-4)


def test_alpha_of_two_observers_is_krippendorffs() -> None:
    """Krippendorff 2011, examples A (binary) and B (nominal)."""
    binary = np.array([[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]], float)
    assert of(binary, [0, 1]) == pytest.approx(0.095, abs=5e-4)
    letters = [["a", "a", "b", "b", "d", "c", "c", "c", "e", "d", "d", "a"],
               ["b", "a", "b", "b", "b", "c", "c", "c", "e", "d", "d", "d"]]  # fmt: skip
    nominal = np.array([["abcde".index(letter) for letter in row] for row in letters], float)
    assert of(nominal, [0, 1, 2, 3, 4]) == pytest.approx(0.692, abs=5e-4)


def slow_alpha(values_JU: np.ndarray, level: str) -> float:
    """1 - D_o / D_e pair by pair: within units (weighed by 1 / (m - 1)), and of all values with all others."""
    units = [[value for value in unit if not math.isnan(value)] for unit in values_JU.T]
    units = [unit for unit in units if len(unit) > 1]
    everything = [value for unit in units for value in unit]

    def apart(a: float, b: float) -> float:
        if level == "nominal":
            return float(a != b)
        if level == "interval":
            return (a - b) ** 2
        low, high = min(a, b), max(a, b)
        between = sum(low <= value <= high for value in everything)
        return (between - (everything.count(a) + everything.count(b)) / 2) ** 2 if a != b else 0.0

    n = len(everything)
    observed = sum(sum(apart(a, b) for a, b in itertools.permutations(u, 2)) / (len(u) - 1) for u in units) / n
    expected = sum(apart(a, b) for a, b in itertools.permutations(everything, 2)) / (n * (n - 1))
    return 1 - observed / expected


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_alpha_equals_the_slow_definition(level: str) -> None:
    draw = np.random.default_rng(0)
    for _ in range(5):
        values_JU = draw.integers(1, 6, (4, 25)).astype(float)
        values_JU[draw.random(values_JU.shape) < 0.4] = NO
        assert of(values_JU, [1, 2, 3, 4, 5], level) == pytest.approx(slow_alpha(values_JU, level), abs=1e-12)


def test_alpha_is_not_defined_without_two_values_or_without_a_difference() -> None:
    assert math.isnan(of(np.array([[1, NO], [NO, 2]]), [1, 2]))
    assert math.isnan(of(np.array([[1.0, 1.0], [1.0, 1.0]]), [1, 2]))
    assert alpha_interval(np.array([[1, NO], [NO, 2]]), [1, 2]) is None


def test_the_interval_is_that_of_drawing_units_one_by_one() -> None:
    found = alpha_interval(FOUR_OBSERVERS, [1, 2, 3, 4, 5])
    assert found is not None
    draw = np.random.default_rng(1)
    drawn = [of(FOUR_OBSERVERS[:, draw.integers(0, 12, 12)], [1, 2, 3, 4, 5]) for _ in range(4000)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    assert (found.low, found.high) == (pytest.approx(low, abs=0.03), pytest.approx(high, abs=0.03))


def test_kappa_is_scikit_learns() -> None:
    draw = np.random.default_rng(0)
    for size in (2, 10, 300):
        a, b = (draw.choice(["first", "second", "tie", "both_bad"], size).tolist() for _ in range(2))
        assert kappa(a, b) == pytest.approx(cohen_kappa_score(a, b), abs=1e-12)
    assert kappa(["x", "y"], ["x", "y"]) == 1
    assert math.isnan(kappa(["x", "x"], ["x", "x"]))
    assert math.isnan(kappa([], []))
