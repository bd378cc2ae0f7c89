"""MinHash and its bands (Broder 1997; Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, ch. 3).

Two sets agree in one minimum with a probability of their Jaccard s, in a band of r minima with s^r, in at least one of
b bands with 1 - (1 - s^r)^b. Whoever agrees in a band is a candidate; candidates are verified, so bands cost time, not
precision.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from whet.data.near.ngrams import mixed

RECALL = 0.99
"""The share of pairs at the threshold itself that become candidates; of pairs above it, more."""
MOST_HASHES = 256


class Bands(NamedTuple):
    """`number` bands of `rows` minima each."""

    number: int
    rows: int

    def recall(self, jaccard: float) -> float:
        """The probability that a pair of this Jaccard becomes a candidate."""
        return 1 - (1 - jaccard**self.rows) ** self.number


def bands_for(threshold: float) -> Bands:
    """The longest bands, up to 6 minima, that reach RECALL at the threshold with up to MOST_HASHES minima.

    Long bands have few false candidates, but more of them are needed.
    """
    for rows in range(6, 0, -1):
        count = math.ceil(math.log(1 - RECALL) / math.log(1 - threshold**rows)) if threshold < 1 else 1
        if count * rows <= MOST_HASHES:
            return Bands(count, rows)
    return Bands(MOST_HASHES, 1)


def band_keys(shingles: np.ndarray, bounds: np.ndarray, bands: Bands) -> np.ndarray:
    """uint32 [texts, bands]: equal where two texts agree in a band. `shingles` uint64, by text as `bounds` says.

    A minimum is that of the shingles' low 32 bits times an odd number (multiply-shift: Dietzfelbinger et al. 1997).
    The keys of a text without shingles mean nothing.
    """
    texts = len(bounds) - 1
    if not len(shingles):
        return np.zeros((texts, bands.number), np.uint32)
    low = shingles.astype(np.uint32)
    has = np.flatnonzero(np.diff(bounds))  # reduceat has no empty ranges
    minima, product = np.empty((bands.rows, len(has)), np.uint32), np.empty_like(low)
    keys = np.zeros((bands.number, texts), np.uint32)
    factors = _factors(bands.number * bands.rows).reshape(bands)
    for band in range(bands.number):
        for row in range(bands.rows):
            np.multiply(low, factors[band, row], out=product)
            np.minimum.reduceat(product, bounds[has], out=minima[row])
        together = np.full(len(has), band, np.uint64)
        for row in range(bands.rows):
            together = mixed(together * np.uint64(0x9E3779B97F4A7C15) + minima[row])
        keys[band, has] = together.astype(np.uint32)
    return np.ascontiguousarray(keys.T)


def _factors(count: int) -> np.ndarray:
    """The same odd numbers everywhere: what daft's processes find must agree."""
    return np.random.default_rng(20).integers(0, 2**32, count, dtype=np.uint32) | np.uint32(1)
