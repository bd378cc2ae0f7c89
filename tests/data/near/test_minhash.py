"""Bands against the formula and against what they find; estimates beside datasketch's."""

from __future__ import annotations

import numpy as np
import pytest

from whet.data.near.minhash import Bands, band_keys, bands_for
from whet.data.near.ngrams import mixed


def pair_of_sets(rng: np.random.Generator, size: int, shared: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of `size` random shingles with `shared` in common."""
    values = rng.integers(0, 2**64, 2 * size - shared, dtype=np.uint64)
    return values[:size], values[size - shared :]


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0])
def test_bands_reach_the_recall_at_the_threshold(threshold: float) -> None:
    bands = bands_for(threshold)
    assert bands.recall(threshold) >= 0.98
    assert bands.number * bands.rows <= 256


def test_the_bands_of_the_default_by_hand() -> None:
    # 0.8^6 = 0.262144; (1 - 0.262144)^16 = 0.0077 <= 0.01 < 0.0104 = (1 - 0.262144)^15
    assert bands_for(0.8) == Bands(16, 6)


@pytest.mark.parametrize("similar", [0.5, 0.8, 0.9])
def test_pairs_share_a_band_as_often_as_the_formula_says(similar: float) -> None:
    rng, bands, tries, size = np.random.default_rng(0), bands_for(0.8), 2000, 180
    shared = round(2 * size * similar / (1 + similar))
    sets = [pair for _ in range(tries) for pair in pair_of_sets(rng, size, shared)]
    keys = band_keys(np.concatenate(sets), np.arange(0, 2 * tries * size + 1, size), bands)
    met = (keys[0::2] == keys[1::2]).any(axis=1).mean()
    expected = bands.recall(shared / (2 * size - shared))
    assert met == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / tries) + 1e-3)


def test_minima_estimate_jaccard_as_well_as_datasketch() -> None:
    from datasketch import MinHash

    rng, hashes = np.random.default_rng(1), 96
    ours, theirs, truth = [], [], []
    for shared in rng.integers(20, 180, 60):
        a, b = pair_of_sets(rng, 200, int(shared))
        truth.append(shared / (400 - shared))
        keys = band_keys(np.concatenate([a, b]), np.array([0, 200, 400]), Bands(hashes, 1))
        ours.append((keys[0] == keys[1]).mean())
        sketches = [MinHash(hashes, seed=2) for _ in range(2)]
        for sketch, of in zip(sketches, (a, b), strict=True):
            sketch.update_batch([value.tobytes() for value in of])
        theirs.append(sketches[0].jaccard(sketches[1]))
    error = np.abs(np.array(ours) - truth).mean()
    assert error < 1.3 * np.abs(np.array(theirs) - truth).mean()


def test_a_text_has_its_keys_whatever_is_beside_it_even_empty_texts() -> None:
    values = mixed(np.arange(1, 31, dtype=np.uint64))
    bands = Bands(4, 3)
    together = band_keys(values, np.array([0, 0, 10, 10, 30, 30]), bands)
    apart = [band_keys(values[a:b], np.array([0, b - a]), bands)[0] for a, b in ((0, 10), (10, 30))]
    assert together[[1, 3]].tolist() == [key.tolist() for key in apart]
