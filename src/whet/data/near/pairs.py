"""Band keys -> pairs of texts that are near: candidates bucket by bucket, each verified by true Jaccard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from whet.data.near.ngrams import ranges

ALL_PAIRS = 64
"""In a bucket up to this size every pair is a candidate; in a larger one, each text with the first few alone."""
ROUNDS = 4
"""In round n of them (from 0), larger buckets compare with their first 4^n texts; texts that were near one are gone."""
AT_ONCE = 1 << 22
"""Candidates, and shingles, in memory at once."""


@dataclass(frozen=True)
class Sets:
    """Sets of shingles: set i is `values[starts[i]:starts[i] + sizes[i]]`, uint32, each value once."""

    values: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray

    def __getitem__(self, order: np.ndarray) -> Sets:
        """The sets with these numbers, in this order; values are shared."""
        return Sets(self.values, self.starts[order], self.sizes[order])


class Pairs(NamedTuple):
    """Verified pairs, `first` < `second`, by number of text; each once."""

    first: np.ndarray
    second: np.ndarray
    jaccard: np.ndarray
    cut: int
    """So many candidates of large buckets were left out."""


def sets_of(shingles: np.ndarray, bounds: np.ndarray) -> Sets:
    """Each text's shingles, uint64, sorted and each once, by their low 32 bits.

    Of n shingles about n / 2^33 are lost to equal low bits: one in a thousand for a text of eight million words.
    """
    text = np.repeat(np.arange(len(bounds) - 1, dtype=np.uint64), np.diff(bounds))
    together = np.unique(text << np.uint64(32) | shingles & np.uint64(0xFFFFFFFF))
    sizes = np.bincount((together >> np.uint64(32)).astype(np.int64), minlength=len(bounds) - 1)
    return Sets(together.astype(np.uint32), np.cumsum(sizes) - sizes, sizes)


def jaccard(sets: Sets, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """|A and B| / |A or B| of each pair of sets, float64 [pairs]; 0 where both are empty."""
    sizes = sets.sizes
    both = sizes[first] + sizes[second]
    shared = np.zeros(len(first), np.int64)
    for part in _slices(both):
        a, b = first[part], second[part]
        pair = np.arange(len(a), dtype=np.uint64) << np.uint64(32)
        together = [
            np.repeat(pair, sizes[of]) | sets.values[ranges(sets.starts[of], sizes[of])].astype(np.uint64)
            for of in (a, b)
        ]
        values = np.sort(np.concatenate(together))
        twice = values[1:][values[1:] == values[:-1]]
        shared[part] = np.bincount((twice >> np.uint64(32)).astype(np.int64), minlength=len(a))
    similar: np.ndarray = shared / np.maximum(both - shared, 1)
    return similar


def in_company(keys: np.ndarray) -> np.ndarray:
    """bool [texts]: whether another text has the same key in some band. `keys` [texts, bands]."""
    found = np.zeros(len(keys), bool)
    for key in keys.T:
        order = np.argsort(key, kind="stable")
        same = key[order][1:] == key[order][:-1]
        found[order[1:][same]] = True
        found[order[:-1][same]] = True
    return found


def near_pairs(keys: np.ndarray, sets: Sets, threshold: float) -> Pairs:
    """Pairs with a Jaccard of at least `threshold` among texts that share a band key. Earlier texts are preferred.

    Where no bucket is larger than ALL_PAIRS, every candidate is verified. Larger ones (templates, boilerplate) would
    have a quadratic number: see ROUNDS. What that leaves out is counted in `cut`.
    """
    alive = np.arange(len(keys))
    sizes = sets.sizes
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    cut = 0
    for number in range(ROUNDS):
        cut, here = 0, []
        for first, second, left_out in _candidates(keys[alive], 4**number):
            cut += left_out
            first, second = alive[first], alive[second]
            least, most = np.minimum(sizes[first], sizes[second]), np.maximum(sizes[first], sizes[second])
            could = least >= threshold * most  # J is at most least / most
            first, second = first[could], second[could]
            similar = jaccard(sets, first, second)
            near = similar >= threshold
            here.append((first[near], second[near], similar[near]))
        found += here
        if not cut:
            break
        attached = np.concatenate([second for _, second, _ in here])
        alive = np.setdiff1d(alive, attached, assume_unique=False)
    return _each_once(found, cut)


def _slices(sizes: np.ndarray) -> Iterator[slice]:
    """Slices of an array whose items have these sizes, of about AT_ONCE together (one item may have more)."""
    group = np.cumsum(sizes) // AT_ONCE
    ends = [*(np.flatnonzero(np.diff(group)) + 1).tolist(), len(sizes)]
    yield from (slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True) if end > start)


def _each_once(found: list[tuple[np.ndarray, np.ndarray, np.ndarray]], cut: int) -> Pairs:
    first, second, similar = (np.concatenate(parts) for parts in zip(*found, strict=True))
    _, once = np.unique(first << 32 | second, return_index=True)
    return Pairs(first[once], second[once], similar[once], cut)


def _candidates(keys: np.ndarray, leaders: int) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """(first, second, how many were left out) of the pairs of all bands, a bounded number at a time, each once."""
    waiting: list[np.ndarray] = []
    left_out = 0
    for key in keys.T:
        order = np.argsort(key, kind="stable")
        begins = np.flatnonzero(np.concatenate([[True], key[order][1:] != key[order][:-1]])) if len(key) else order
        sizes = np.diff(begins, append=len(order))
        place = np.arange(len(order)) - np.repeat(begins, sizes)  # within the bucket
        start, size = np.repeat(begins, sizes), np.repeat(sizes, sizes)
        partners = np.where(size <= ALL_PAIRS, place, np.minimum(place, leaders))
        left_out += int((place - partners).sum())
        some = np.flatnonzero(partners)
        for part in _slices(partners[some]):
            of = some[part]
            first, second = order[ranges(start[of], partners[of])], order[np.repeat(of, partners[of])]
            waiting.append(first << 32 | second)
            if sum(map(len, waiting)) >= AT_ONCE:
                pairs = np.unique(np.concatenate(waiting))
                yield pairs >> 32, pairs & 0xFFFFFFFF, left_out
                waiting, left_out = [], 0
    pairs = np.unique(np.concatenate(waiting)) if waiting else np.zeros(0, np.int64)
    yield pairs >> 32, pairs & 0xFFFFFFFF, left_out
