"""Clusters of like texts: spherical k-means (Dhillon and Modha 2001) over hashed tf-idf, found on a sample of rows.

All sums run in one order in float64, so the same rows and seed give the same clusters on any machine.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from whet.data.steps.ngrams import BUCKETS, WORD, ngrams, pieces

ROUNDS = 30


class Bags(NamedTuple):
    """Sparse rows: `values[i]` stands in row `rows[i]`, column `buckets[i]`; there are `size` rows."""

    rows: np.ndarray
    buckets: np.ndarray
    values: np.ndarray
    size: int

    def times(self, vector: np.ndarray) -> np.ndarray:
        """The product with a dense vector: [buckets] -> [rows]."""
        return np.bincount(self.rows, self.values * vector[self.buckets], minlength=self.size)

    def dense(self, row: int) -> np.ndarray:
        """A row in full: [buckets]."""
        start, stop = np.searchsorted(self.rows, [row, row + 1])
        return np.bincount(self.buckets[start:stop], self.values[start:stop], minlength=BUCKETS)


class Clusters(NamedTuple):
    """What texts are assigned by: `idf` [buckets], and the clusters' unit centres [clusters, buckets]."""

    idf: np.ndarray
    centres: np.ndarray

    def of(self, texts: Sequence[str]) -> np.ndarray:
        """The nearest cluster of each text; the first for one without words."""
        found = [nearest(weighted(word_counts(texts[piece]), self.idf), self.centres)[0] for piece in pieces(texts)]
        return np.concatenate(found)


def find_clusters(texts: Sequence[str], count: int, draw: np.random.Generator) -> Clusters:
    """`count` clusters of these texts, or as many as there are different ones."""
    counts = word_counts(texts)
    documents = np.bincount(counts.buckets, minlength=BUCKETS)
    idf = np.log((1 + counts.size) / (1 + documents)) + 1
    bags = weighted(counts, idf)
    centres = seeded(bags, count, draw)
    labels = np.full(bags.size, -1)
    for _ in range(ROUNDS):
        before, (labels, cosines) = labels, nearest(bags, centres)
        if np.array_equal(before, labels):
            break
        centres = means(bags, labels, len(centres))
        for empty in np.flatnonzero(~centres.any(axis=1)):
            worst = int(cosines.argmin())
            cosines[worst], centres[empty] = 1.0, bags.dense(worst)
    return Clusters(idf, centres)


def word_counts(texts: Sequence[str]) -> Bags:
    """How often each text has each bucket of words."""
    parts = []
    for piece in pieces(texts):
        buckets, rows = ngrams(texts[piece], bigrams=False)
        cells, values = np.unique((rows + piece.start) * BUCKETS + buckets, return_counts=True)
        parts.append((cells, values))
    cells = np.concatenate([cells for cells, _ in parts]) if parts else np.zeros(0, np.int64)
    values = np.concatenate([values for _, values in parts]) if parts else np.zeros(0, np.int64)
    return Bags(cells // BUCKETS, cells % BUCKETS, values, len(texts))


def weighted(counts: Bags, idf: np.ndarray) -> Bags:
    """(1 + log count) * idf, rows of length 1."""
    values = (1 + np.log(counts.values)) * idf[counts.buckets]
    lengths = np.sqrt(np.bincount(counts.rows, values**2, minlength=counts.size))
    return counts._replace(values=values / lengths[counts.rows])


def seeded(bags: Bags, count: int, draw: np.random.Generator) -> np.ndarray:
    """First centres: rows, each drawn in proportion to its distance from those before it (k-means++, Arthur and
    Vassilvitskii 2007). Fewer than `count` where the rows are not that many different ones."""
    centres = [bags.dense(int(draw.integers(bags.size)))]
    distances = np.full(bags.size, 2.0)
    while len(centres) < count:
        distances = np.minimum(distances, np.maximum(1 - bags.times(centres[-1]), 0))
        distances[distances < 1e-9] = 0
        if not distances.any():
            break
        centres.append(bags.dense(int(draw.choice(bags.size, p=distances / distances.sum()))))
    return np.stack(centres)


def nearest(bags: Bags, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(cluster, cosine to its centre) of each row."""
    labels, best = np.zeros(bags.size, np.int64), np.full(bags.size, -np.inf)
    for number, centre in enumerate(centres):
        cosines = bags.times(centre)
        closer = cosines > best
        labels[closer], best[closer] = number, cosines[closer]
    return labels, best


def means(bags: Bags, labels: np.ndarray, count: int) -> np.ndarray:
    """The clusters' means, of length 1; zeros for a cluster without rows."""
    cells = labels[bags.rows] * BUCKETS + bags.buckets
    sums = np.bincount(cells, bags.values, minlength=count * BUCKETS).reshape(count, BUCKETS)
    return np.asarray(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12))


def names(clusters: Clusters, texts: Sequence[str], words: int = 3) -> list[str]:
    """Each cluster's number and the words that set it apart from the others, for people: `4: shall, agreement, party`.

    A bucket is named by its most frequent word in these texts.
    """
    known = [word for word, _ in Counter(w for t in texts for w in re.findall(WORD, t.lower())).most_common()]
    of_bucket: dict[int, str] = {}
    for piece in pieces(known):
        for bucket, word in zip(ngrams(known[piece], bigrams=False)[0], known[piece], strict=True):
            of_bucket.setdefault(int(bucket), word)
    found = []
    for number, apart in enumerate(clusters.centres - clusters.centres.mean(axis=0)):
        heaviest = (of_bucket.get(int(bucket), "") for bucket in np.argsort(-apart, kind="stable")[:50])
        found.append(f"{number}: " + ", ".join([word for word in heaviest if word.isalpha() and len(word) > 2][:words]))
    return found
