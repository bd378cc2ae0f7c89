"""BM25: how well texts answer a query by the words that they share (Robertson and Zaragoza 2009).

score(q, d) = sum over words w of q:  idf(w) tf (k1 + 1) / (tf + k1 (1 - b + b |d| / mean |d|))
idf(w) = ln(1 + (N - n + 0.5) / (n + 0.5))        n of N texts have w; above 0 always, as Lucene has it
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

K1, B = 1.5, 0.75
_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Lower-case runs of letters, digits and underscores."""
    return _WORD.findall(text.lower())


class BM25:
    """An index of texts."""

    def __init__(self, texts: Sequence[str], k1: float = K1, b: float = B):
        counts = [Counter(words(text)) for text in texts]
        lengths = np.array([sum(count.values()) for count in counts], dtype=np.float64)
        relative = lengths / max(lengths.mean(), 1e-9) if len(texts) else lengths
        places: dict[str, list[tuple[int, int]]] = {}
        for place, count in enumerate(counts):
            for word, often in count.items():
                places.setdefault(word, []).append((place, often))
        self.size = len(texts)
        self._weights: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for word, found in places.items():
            at, tf = np.array([place for place, _ in found]), np.array([often for _, often in found], dtype=np.float64)
            idf = np.log1p((self.size - len(found) + 0.5) / (len(found) + 0.5))
            self._weights[word] = at, idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * relative[at]))

    def scores(self, query: str) -> np.ndarray:
        """[texts] float64; a word that the query repeats counts each time."""
        scores = np.zeros(self.size)
        for word, often in Counter(words(query)).items():
            if word in self._weights:
                at, weight = self._weights[word]
                scores[at] += often * weight
        return scores
