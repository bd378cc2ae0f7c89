"""The rule on results made up for it: a planted winner is found, and noise is not taken for one."""

from __future__ import annotations

import numpy as np
import pytest

from whet.advise.verdict import Contender, over_seeds, recommend, worse_by

ROWS = 60


def contender(name: str, cost: float, loss: float, seed: int, noise: float = 0.02, seeds: int = 3) -> Contender:
    """Rows of four targets that differ much between rows, alike for every contender, and a little by chance."""
    rows_R = np.random.default_rng(0).normal(0, 1, ROWS)
    chance_SR = np.random.default_rng(seed).normal(0, noise, (seeds, ROWS))
    return Contender(name, cost, -4 * (loss + rows_R + chance_SR), np.full(ROWS, 4))


def test_a_planted_winner_is_recommended_though_it_costs_most() -> None:
    ways = [contender("zero-shot", 0, 3.0, 1), contender("lora", 10, 2.5, 2), contender("full", 1000, 2.0, 3)]
    chosen, behind = recommend(ways)
    assert chosen.name == "full"
    assert behind["lora"].mean == pytest.approx(0.5, abs=0.02)
    assert behind["lora"].low > 0


def test_within_the_noise_the_cheapest_is_taken() -> None:
    ways = [contender("full", 1000, 2.0, 1), contender("lora", 10, 2.001, 2), contender("prefix", 1, 2.002, 3)]
    assert recommend(ways)[0].name == "prefix"


def test_a_small_but_sure_gain_of_the_dearer_one_counts_for_rows_are_paired() -> None:
    cheap, dear = contender("prefix", 1, 2.05, 1), contender("lora", 10, 2.0, 2)
    assert recommend([cheap, dear])[0].name == "lora"  # rows differ by a hundred times the gain


def test_the_difference_is_in_nats_a_target() -> None:
    found = worse_by(contender("a", 1, 2.3, 1, noise=0.0), contender("b", 1, 2.0, 2, noise=0.0))
    assert found.mean == pytest.approx(0.3)
    assert found.low == pytest.approx(0.3)
    assert found.high == pytest.approx(0.3)


def test_the_interval_over_seeds_is_students() -> None:
    found = over_seeds([1.0, 2.0, 3.0])  # deviation 1, t(2) = 4.303
    assert (found.mean, found.high) == (2.0, pytest.approx(2 + 4.303 / 3**0.5))
    assert over_seeds([5.0]).low == 5.0
