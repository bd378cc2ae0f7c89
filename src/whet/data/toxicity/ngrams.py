"""Texts -> hashed n-grams of characters and words, in numpy alone: no vocabulary, so nothing of the rows is kept.

A text becomes a sparse vector: how often each bucket was hit, divided by the square root of all hits, so that its
length is about one whatever the text's. Weinberger et al. 2009, "Feature Hashing".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_URL = re.compile(r"https?://\S+|www\.\S+")
_NAME = re.compile(r"(?<!\w)@\w+")
_NUMBER = re.compile(r"\d+")
_BLANK = re.compile(r"\s+")
_PRIME = 0x100000001B3
_MIX = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


class Grams(NamedTuple):
    """The n-grams of several texts: `row` [N] the text's number, `bucket` [N], and `scale` [texts]."""

    row: np.ndarray
    bucket: np.ndarray
    scale: np.ndarray

    def times(self, weight_B: np.ndarray) -> np.ndarray:
        """The product with a vector over buckets: one number a text."""
        return np.asarray(np.bincount(self.row, weight_B[self.bucket], len(self.scale)) * self.scale)

    def transposed_times(self, of_row: np.ndarray, buckets: int) -> np.ndarray:
        """The product of the transpose with a vector over texts: one number a bucket."""
        return np.bincount(self.bucket, (of_row * self.scale)[self.row], buckets)


def plain(text: str) -> str:
    """Lower case, blanks single; links, @names and numbers each as one sign, so that no person's are learnt."""
    text = _NUMBER.sub("0", _NAME.sub("@", _URL.sub("http", text.lower())))
    return f" {_BLANK.sub(' ', text).strip()} "


def ngrams(texts: Sequence[str], buckets: int, chars: tuple[int, int], words: int) -> Grams:
    """The hashed n-grams of texts: characters (bytes of UTF-8) chars[0] to chars[1] long, and words 1 to `words` long.

    `buckets` is a power of two.
    """
    coded = [plain(text).encode() for text in texts]
    lengths = np.fromiter(map(len, coded), np.int64, len(coded))
    bytes_T = np.frombuffer(b"".join(coded), np.uint8).astype(np.uint64)
    row_T = np.repeat(np.arange(len(coded), dtype=np.int32), lengths)
    shift = np.uint64(64 - (buckets.bit_length() - 1))
    rows, hashes = [], []
    hash_T = np.zeros(len(bytes_T), np.uint64)
    for size in range(1, chars[1] + 1):
        if size > len(bytes_T):
            break
        hash_T = hash_T[: len(bytes_T) - size + 1] * np.uint64(_PRIME) + bytes_T[size - 1 :]
        if size >= chars[0]:
            first = row_T[: len(hash_T)]
            whole = first == row_T[size - 1 :]  # not over the end of a text
            rows.append(first[whole])
            hashes.append(_mixed(hash_T[whole], size))
    for row, hashed in _word_grams(bytes_T, row_T, words):
        rows.append(row)
        hashes.append(hashed)
    row_N = np.concatenate(rows)
    scale = 1 / np.sqrt(np.maximum(np.bincount(row_N, minlength=len(coded)), 1))
    return Grams(row_N, (np.concatenate(hashes) >> shift).astype(np.int32), scale)


def _mixed(hashed: np.ndarray, kind: int) -> np.ndarray:
    """Spread: the upper bits of a product by an odd constant depend on all bits below them."""
    hashed = hashed ^ np.uint64((kind * _MIX) & _MASK)
    hashed = (hashed ^ (hashed >> np.uint64(32))) * np.uint64(_MIX)
    return np.asarray((hashed ^ (hashed >> np.uint64(29))) * np.uint64(_PRIME))


def _word_grams(bytes_T: np.ndarray, row_T: np.ndarray, most: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Words are runs of letters, digits, apostrophes and all beyond ASCII. Each text begins and ends with a blank."""
    if not most:
        return []
    letter = _LETTERS[bytes_T.astype(np.int64)]
    edges = np.flatnonzero(np.diff(letter.astype(np.int8)))
    starts, stops = edges[::2] + 1, edges[1::2] + 1
    # A word's hash is a difference of running sums of byte * P^place, moved back to place 0 by P^-start (modulo 2^64).
    power_T = np.cumprod(np.full(len(bytes_T), _PRIME, np.uint64))
    back_T = np.cumprod(np.full(len(bytes_T), pow(_PRIME, -1, 1 << 64), np.uint64))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(bytes_T * power_T)])
    word_W = _mixed((sums[stops] - sums[starts]) * back_T[starts], 101)
    row_W = row_T[starts]
    found = []
    hash_W = np.zeros(len(word_W), np.uint64)
    for size in range(1, min(most, len(word_W)) + 1):
        hash_W = hash_W[: len(word_W) - size + 1] * np.uint64(_PRIME) + word_W[size - 1 :]
        whole = row_W[: len(hash_W)] == row_W[size - 1 :]
        found.append((row_W[: len(hash_W)][whole], _mixed(hash_W[whole], 101 + size)))
    return found


_LETTERS = np.array([chr(b).isalnum() or chr(b) == "'" if b < 128 else True for b in range(256)])
