"""Texts that mean the same, by the cosine of their embeddings: every pair is computed, some blocks at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from whet.errors import ModelError

BLOCK = 1024


def unit_vectors(vectors: Any, count: int) -> np.ndarray:
    """float32 [count, dimensions] of length 1 from what a service gave. Raises ModelError for what is no such array."""
    array = np.asarray(vectors, np.float32)
    if array.ndim != 2 or len(array) != count or not np.isfinite(array).all():
        raise ModelError(
            f"`embed` gave an array of {array.shape} for {count} texts, or one with values that are no numbers",
            do="it must give [texts, dimensions]",
        )
    unit: np.ndarray = array / np.maximum(np.linalg.norm(array, axis=1, keepdims=True), 1e-12)
    return unit


def kept_by_meaning(vectors: np.ndarray, threshold: float, held: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(kept int64 [texts], cosine [texts]): -1 for what is kept, else the kept one that it is nearest to.

    `vectors` [texts, dimensions] of length 1, in order of preference; the first `held` are all kept. Time grows with
    the square of what is kept: 100,000 texts of 384 dimensions are 2e12 multiplications.
    """
    kept, cosine = np.full(len(vectors), -1), np.zeros(len(vectors))
    stay = np.arange(held)
    for start in range(held, len(vectors), BLOCK):
        block = np.arange(start, min(start + BLOCK, len(vectors)))
        for part in range(0, len(stay), BLOCK):
            _nearer(vectors, block, stay[part : part + BLOCK], kept, cosine, threshold)
        for index in block[kept[block] < 0]:
            if kept[index] < 0:
                later = block[(block > index) & (kept[block] < 0)]
                _nearer(vectors, later, np.array([index]), kept, cosine, threshold)
        stay = np.concatenate([stay, block[kept[block] < 0]])
    return kept, cosine


def _nearer(
    vectors: np.ndarray, texts: np.ndarray, stay: np.ndarray, kept: np.ndarray, cosine: np.ndarray, threshold: float
) -> None:
    """Note for each of `texts` the nearest of `stay`, where it is near enough and nearer than what was noted."""
    if len(texts) and len(stay):
        products = vectors[texts] @ vectors[stay].T
        best = products.argmax(axis=1)
        value = products[np.arange(len(texts)), best]
        nearer = (value >= threshold) & (value > np.where(kept[texts] < 0, -1.0, cosine[texts]))
        kept[texts[nearer]], cosine[texts[nearer]] = stay[best[nearer]], value[nearer]
