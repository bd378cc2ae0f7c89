"""Pairs and clusters against brute force."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whet.data.near import pairs as of_pairs
from whet.data.near.clusters import components, kept_for
from whet.data.near.minhash import band_keys, bands_for
from whet.data.near.ngrams import ngrams, words
from whet.data.near.pairs import in_company, jaccard, near_pairs, sets_of

TEXTS = st.lists(st.lists(st.sampled_from("abcdefg"), max_size=12).map(" ".join), min_size=1, max_size=12)


def plain_sets(texts: list[str], n: int) -> list[set[tuple[str, ...]]]:
    return [set(zip(*(text.split()[k:] for k in range(n)), strict=False)) for text in texts]


def plain_jaccard(a: set[tuple[str, ...]], b: set[tuple[str, ...]]) -> float:
    return len(a & b) / len(a | b) if a | b else 0.0


@given(TEXTS, st.integers(1, 3), st.integers(1, 40))
@settings(max_examples=150, deadline=None)
def test_jaccard_is_that_of_sets_of_tuples(texts: list[str], n: int, at_once: int) -> None:
    first, second = (np.array(x, np.int64) for x in zip(*combinations(range(len(texts) + 1), 2), strict=True))
    texts = [*texts, texts[0]]
    sets = sets_of(*ngrams(*words(texts), n))
    plain = plain_sets(texts, n)
    before, of_pairs.AT_ONCE = of_pairs.AT_ONCE, at_once
    try:
        found = jaccard(sets, first, second)
    finally:
        of_pairs.AT_ONCE = before
    expected = [plain_jaccard(plain[a], plain[b]) for a, b in zip(first, second, strict=True)]
    assert found.tolist() == pytest.approx(expected)


def varied(rng: np.random.Generator, families: int, copies: int, size: int = 80) -> list[str]:
    """Families of texts that differ from their first in up to a fifth of their words."""
    texts = []
    for _ in range(families):
        base = rng.integers(0, 5000, size)
        for _ in range(copies):
            copy = base.copy()
            where = rng.choice(size, rng.integers(0, 5), replace=False)
            copy[where] = rng.integers(0, 5000, len(where))
            texts.append(" ".join(f"w{number}" for number in copy))
    return [texts[number] for number in rng.permutation(len(texts))]


def found_and_true(texts: list[str], threshold: float) -> tuple[of_pairs.Pairs, set[tuple[int, int]]]:
    shingles, bounds = ngrams(*words(texts), 5)
    keys = band_keys(shingles, bounds, bands_for(threshold))
    found = near_pairs(keys, sets_of(shingles, bounds), threshold)
    plain = plain_sets(texts, 5)
    near = {(a, b) for a, b in combinations(range(len(texts)), 2) if plain_jaccard(plain[a], plain[b]) >= threshold}
    return found, near


def test_near_pairs_are_those_of_brute_force() -> None:
    found, near = found_and_true(varied(np.random.default_rng(0), families=60, copies=6), 0.8)
    pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert found.cut == 0
    assert pairs <= near
    assert len(pairs) >= 0.98 * len(near)
    assert len(near) > 100


def test_a_large_bucket_is_cut_and_says_so_but_its_rows_stay_connected() -> None:
    texts = varied(np.random.default_rng(1), families=1, copies=300)
    found, near = found_and_true(texts, 0.6)
    pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert pairs < near
    joined = components(len(texts), found.first, found.second)
    truth = components(len(texts), *np.array(sorted(near)).T)
    assert (joined == truth).mean() > 0.99


def test_who_has_company_has_a_key_in_common() -> None:
    keys = np.array([[1, 2], [3, 2], [4, 5], [1, 6]], np.uint32)
    assert in_company(keys).tolist() == [True, True, False, True]
    assert in_company(np.zeros((0, 2), np.uint32)).tolist() == []


EDGES = st.lists(
    st.tuples(st.integers(0, 14), st.integers(0, 14)).filter(lambda e: e[0] < e[1]), max_size=25, unique=True
)


@given(EDGES)
@settings(max_examples=200, deadline=None)
def test_components_are_what_can_be_reached(edges: list[tuple[int, int]]) -> None:
    first, second = (np.array([e[k] for e in edges], np.int64) for k in (0, 1))
    reach = {a: {a} for a in range(15)}
    for _ in range(15):
        for a, b in edges:
            reach[a] = reach[b] = reach[a] | reach[b]
    assert components(15, first, second).tolist() == [min(reach[a]) for a in range(15)]


@given(EDGES)
@settings(max_examples=200, deadline=None)
def test_whatever_goes_goes_for_what_stays_and_no_two_that_stay_are_near(edges: list[tuple[int, int]]) -> None:
    first, second = (np.array([e[k] for e in edges], np.int64) for k in (0, 1))
    kept, _ = kept_for(15, first, second, np.ones(len(edges)))
    for row, whom in enumerate(kept.tolist()):
        assert whom == -1 or (kept[whom] == -1 and (whom, row) in edges)
    assert all(kept[a] != -1 or kept[b] != -1 for a, b in edges)


def test_of_a_chain_both_ends_stay_if_the_first_is_best() -> None:
    kept, similar = kept_for(3, np.array([0, 1]), np.array([1, 2]), np.array([0.9, 0.85]))
    assert kept.tolist() == [-1, 0, -1]
    assert similar.tolist() == [0, 0.9, 0]
