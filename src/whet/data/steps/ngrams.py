"""Hashed unigrams and bigrams of many texts at once: the features of DSIR, and the words of clusters.

Words are runs of letters, digits and `_`, or of what is neither those nor blank, in lower case (NLTK's WordPunct).
Words are hashed as polynomials of their code points in 64 bits, all of a batch in a few passes of numpy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

BUCKETS = 10_000
_BASE, _NEXT = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)
WORD = r"\w+|[^\w\s]+"
PIECE = 1 << 20
"""Characters that are hashed together; the arrays of a piece take about 60 bytes a character."""


def ngrams(texts: Sequence[str], buckets: int = BUCKETS, bigrams: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """(bucket [N] int64, text number [N] int64) of every word, and of every two neighbours within a text."""
    lowered = [text.lower() for text in texts]
    lengths = np.fromiter(map(len, lowered), np.int64, len(lowered))
    codes = np.frombuffer("".join(lowered).encode("utf-32-le", "surrogatepass"), np.uint32)
    if not len(codes):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    kinds = _kinds()[codes]
    begins = np.empty(len(codes), bool)
    begins[0] = True
    np.not_equal(kinds[1:], kinds[:-1], out=begins[1:])
    edges = np.cumsum(lengths)[:-1]
    begins[edges[edges < len(codes)]] = True
    starts = np.flatnonzero(begins)
    sizes = np.diff(starts, append=len(codes))
    powers = np.multiply.accumulate(np.full(int(sizes.max()), _BASE))
    inside = np.arange(len(codes)) - np.repeat(starts, sizes)
    hashes = np.add.reduceat((codes.astype(np.uint64) + np.uint64(1)) * powers[inside], starts)
    words = kinds[starts] > 0
    hashes = _mixed(hashes[words])
    rows = np.searchsorted(np.cumsum(lengths), starts[words], side="right")
    if bigrams and len(hashes) > 1:
        together = rows[1:] == rows[:-1]
        pairs = _mixed(hashes[:-1] * _NEXT + hashes[1:])[together]
        hashes, rows = np.concatenate([hashes, pairs]), np.concatenate([rows, rows[1:][together]])
    return (hashes % np.uint64(buckets)).astype(np.int64), rows


def pieces(texts: Sequence[str]) -> Iterator[slice]:
    """Slices of texts that together are about PIECE characters long, in order."""
    start = size = 0
    for number, text in enumerate(texts):
        if size and size + len(text) > PIECE:
            yield slice(start, number)
            start, size = number, 0
        size += len(text)
    if start < len(texts):
        yield slice(start, len(texts))


def counted(texts: Sequence[str], buckets: int = BUCKETS) -> np.ndarray:
    """How often each bucket occurs in all of the texts: [buckets] int64."""
    total = np.zeros(buckets, np.int64)
    for piece in pieces(texts):
        total += np.bincount(ngrams(texts[piece], buckets)[0], minlength=buckets)
    return total


def _mixed(hashes: np.ndarray) -> np.ndarray:
    """Every bit depends on every other, so that the remainder is spread evenly (the finaliser of MurmurHash3)."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        hashes = (hashes ^ (hashes >> np.uint64(33))) * np.uint64(factor)
    return np.asarray(hashes ^ (hashes >> np.uint64(33)))


@lru_cache(maxsize=1)
def _kinds() -> np.ndarray:
    """By code point: 0 blank, 1 in words, 2 other, as Python's `re` has it."""
    kinds = np.full(0x110000, 2, np.uint8)
    everything = "".join(map(chr, range(0x110000)))
    for kind, pattern in ((1, r"\w+"), (0, r"\s+")):
        for match in re.finditer(pattern, everything):
            kinds[match.start() : match.end()] = kind
    return kinds
