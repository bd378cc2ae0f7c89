"""Surface noise: what may change, how often, and what never does."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from whet.data.steps.noise import NEIGHBOURS, NoiseSettings, noisy

NOTHING = dict.fromkeys(NoiseSettings.model_fields, 0.0)
WORDS = "the quick brown fox jumps over a lazy dog, and then it sleeps. " * 400


def with_rates(**rates: float) -> NoiseSettings:
    return NoiseSettings(**(NOTHING | rates))


def draw(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_keys_that_touch_on_a_keyboard() -> None:
    assert set(NEIGHBOURS["g"]) == set("fhtyvb")
    assert set(NEIGHBOURS["q"]) == set("wa")
    assert set(NEIGHBOURS["p"]) == set("ol")
    assert all(a in NEIGHBOURS[b] for a, near in NEIGHBOURS.items() for b in near)


def letters(text: str) -> int:
    return sum(map(str.isalpha, text))


def test_typos_have_their_rate_and_hit_neighbours() -> None:
    out = noisy(WORDS, with_rates(typos=0.1), draw())
    changed = [(a, b) for a, b in zip(WORDS, out, strict=True) if a != b]
    assert all(b in NEIGHBOURS[a] for a, b in changed)
    assert len(changed) / letters(WORDS) == pytest.approx(0.1, abs=0.008)  # 4 standard deviations


def test_drops_swaps_and_case() -> None:
    out = noisy(WORDS, with_rates(drops=0.1), draw())
    assert (len(WORDS) - len(out)) / letters(WORDS) == pytest.approx(0.1, abs=0.008)
    assert re.sub(r"[^ .,]", "", out) == re.sub(r"[^ .,]", "", WORDS)
    swapped = noisy(WORDS, with_rates(swaps=0.1), draw())
    assert swapped != WORDS
    assert [sorted(word) for word in swapped.split(" ")] == [sorted(word) for word in WORDS.split(" ")]
    cased = noisy(WORDS, with_rates(case=0.1), draw())
    assert cased != WORDS
    assert cased.lower() == WORDS


def test_punctuation_and_spaces() -> None:
    out = noisy(WORDS, with_rates(punctuation=0.3), draw())
    assert re.sub("[.,]", "", out) == re.sub("[.,]", "", WORDS)
    marks = len(re.findall("[.,]", WORDS))
    assert len(re.findall("[.,]", out)) / marks == pytest.approx(0.7, abs=0.08)
    spaced = noisy(WORDS, with_rates(spaces=0.2), draw())
    assert spaced.replace(" ", "") == WORDS.replace(" ", "")
    assert "  " in spaced
    assert spaced.count(" ") != WORDS.count(" ")
    clipped = {noisy("it's don't, so", with_rates(punctuation=0.5), draw(seed)) for seed in range(60)}
    assert clipped == {f"it{a}s don{b}t{c} so" for a in ("", "'") for b in ("", "'") for c in ("", ",")}


MOST: dict[str, Any] = dict.fromkeys(NoiseSettings.model_fields, 0.5) | {
    "typos": 0.25, "swaps": 0.1, "drops": 0.1, "case": 0.05,
}  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_numbers_addresses_and_code_stay(seed: int) -> None:
    words = ["3.14", "1,200", "x2", "a@b.org", "https://a.b/c", "`code`", "{field}", "½", "CO₂", "some_name", "-5%"]
    text = " and then ".join(words)
    out = noisy(text, NoiseSettings(**MOST), draw(seed))
    assert out != text
    kept = [word for word in out.split() if word in words]
    assert kept == words, out


def test_a_number_keeps_the_blanks_beside_it() -> None:
    for seed in range(50):
        assert noisy("5 - 3 2 4", NoiseSettings(**MOST), draw(seed)) == "5 - 3 2 4"


def test_the_same_draw_makes_the_same_noise() -> None:
    assert noisy(WORDS, NoiseSettings(), draw(3)) == noisy(WORDS, NoiseSettings(), draw(3))
    assert noisy(WORDS, NoiseSettings(), draw(3)) != noisy(WORDS, NoiseSettings(), draw(4))
    assert noisy("", NoiseSettings(), draw()) == ""
