"""Successive halving beside what it may spend, and a search whose best is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from whet.errors import RecipeError
from whet.incontext.measure import Measured
from whet.incontext.search import FEWEST, Candidate, search
from whet.recipe import InContextPart

ROWS = 64
ANSWERS = [n % 2 for n in range(ROWS)]


class Scoring:
    """Candidate n (by its seed) is right on `good[n]` of the rows; what was asked is kept."""

    def __init__(self, good: Sequence[float]):
        random = np.random.default_rng(0)
        self.right = [random.random(ROWS) < share for share in good]
        self.asked: list[tuple[int, int]] = []

    def __call__(self, candidate: Candidate, places: Sequence[int]) -> Measured:
        self.asked += [(candidate.part.seed, place) for place in places]
        right = np.array([self.right[candidate.part.seed][place] for place in places])
        answers = np.array([ANSWERS[place] for place in places])
        chosen = np.where(right, answers, 1 - answers)
        return Measured(("a", "b"), np.log(np.where(np.eye(2)[chosen] > 0, 0.8, 0.2)), None, np.zeros(len(places)))


def parts(count: int) -> list[InContextPart]:
    return [InContextPart(seed=seed) for seed in range(count)]


def test_without_a_budget_all_are_scored_on_all_rows() -> None:
    scoring = Scoring([0.3, 0.9, 0.6])
    found = search(parts(3), scoring, ANSWERS)
    assert [one.part.seed for one in found] == [1, 2, 0]
    assert len(scoring.asked) == len(set(scoring.asked)) == 3 * ROWS
    assert found[0].accuracy().value == pytest.approx(scoring.right[1].mean())
    assert found[0].logs[0] == pytest.approx(np.log(0.8 if found[0].right[0] else 0.2))


def test_halving_keeps_to_its_budget_and_scores_nothing_twice() -> None:
    scoring = Scoring([0.2] * 5 + [0.95] + [0.4, 0.3])
    found = search(parts(8), scoring, ANSWERS, budget=200)
    assert found[0].part.seed == 5
    assert 150 < len(scoring.asked) <= 200
    assert len(set(scoring.asked)) == len(scoring.asked)
    rows = [one.rows for one in found]
    assert rows == sorted(rows, reverse=True)
    assert [one.rounds for one in found] == [3, 3, 2, 2, 1, 1, 1, 1]
    order = {seed: [place for of, place in scoring.asked if of == seed] for seed in range(8)}
    for one in found[1:]:  # rows come in one order
        assert order[one.part.seed] == order[found[0].part.seed][: one.rows]


def test_a_budget_that_is_too_small_is_told() -> None:
    with pytest.raises(RecipeError, match=f"give {8 * FEWEST}"):
        search(parts(8), Scoring([0.5] * 8), ANSWERS, budget=8 * FEWEST - 1)
