"""Pairs -> clusters, and which rows of a cluster are kept."""

from __future__ import annotations

import numpy as np


def components(count: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """int64 [count]: the lowest number that each of `count` things is joined with, by whatever chain of pairs.

    Union-find, all pairs at a time: each root hooks on to the lowest root that it meets, then paths are halved.
    """
    root = np.arange(count)
    while len(first):
        a, b = root[first], root[second]
        apart = a != b
        first, second, a, b = first[apart], second[apart], a[apart], b[apart]
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        while (root[root] != root).any():
            root = root[root]
    return root


def kept_for(count: int, first: np.ndarray, second: np.ndarray, similar: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(kept [count] int64, similar [count]): -1 for what is kept, else the kept one for which it is dropped.

    Things come in order of preference. Each is kept unless it is paired with one that is kept already, so nothing is
    dropped for something that is itself dropped: of a chain A ~ B ~ C without A ~ C, A and C stay. Of several kept
    ones the most similar counts.
    """
    order = np.lexsort((-similar, second))  # by the later of a pair, then the most similar partner first
    kept, how = np.full(count, -1), np.zeros(count)
    for a, b, s in zip(first[order].tolist(), second[order].tolist(), similar[order].tolist(), strict=True):
        if kept[b] < 0 and kept[a] < 0:
            kept[b], how[b] = a, s
    return kept, how
