"""Hashed n-grams against the obvious way: `re`, and Python's own integers."""

from __future__ import annotations

import itertools
import re
from collections import Counter

import numpy as np
import pytest

from whet.data.steps import ngrams as module
from whet.data.steps.ngrams import counted, ngrams, pieces

LOW = (1 << 64) - 1


def mixed(number: int) -> int:
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        number = ((number ^ (number >> 33)) * factor) & LOW
    return number ^ (number >> 33)


def slow(text: str, buckets: int, bigrams: bool = True) -> Counter[int]:
    hashes = [
        mixed(sum((ord(letter) + 1) * pow(0x9E3779B97F4A7C15, at, 1 << 64) for at, letter in enumerate(word, 1)) & LOW)
        for word in re.findall(r"\w+|[^\w\s]+", text.lower())
    ]
    pairs = [mixed((a * 0xD6E8FEB86659FD93 + b) & LOW) for a, b in itertools.pairwise(hashes)]
    return Counter(number % buckets for number in hashes + pairs * bigrams)


TEXTS = [
    "", "  \n ", "One word", "don't—stop!", "Straße İstanbul ΑΣ", "x_1 = 3.14", "日本語です。", "a",
    "\U0001f600 ok\u00a0ok", "b c", "!!", "end.",
]  # fmt: skip


@pytest.mark.parametrize("buckets", [7, 10_000])
@pytest.mark.parametrize("bigrams", [True, False])
def test_each_text_has_the_ngrams_it_has_alone(buckets: int, bigrams: bool) -> None:
    found, rows = ngrams(TEXTS, buckets, bigrams)
    for number, text in enumerate(TEXTS):
        assert Counter(found[rows == number].tolist()) == slow(text, buckets, bigrams), text


def test_counts_do_not_depend_on_how_texts_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = counted(TEXTS, 50)
    monkeypatch.setattr(module, "PIECE", 5)
    assert len(list(pieces(TEXTS))) > 5
    assert np.array_equal(counted(TEXTS, 50), whole)
    assert Counter({b: int(n) for b, n in enumerate(whole) if n}) == sum((slow(t, 50) for t in TEXTS), Counter())


def test_no_text_has_no_ngrams() -> None:
    assert len(ngrams([])[0]) == len(ngrams(["", ""])[0]) == 0
