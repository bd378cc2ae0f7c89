"""Texts -> words -> n-grams, as hashes in numpy arrays: a batch of texts at a time, no loop over words.

A word is a run of letters, marks and digits, case folded (Unicode NFC). Writing without blanks between words (Chinese,
Japanese, Thai, Lao, Khmer, Burmese) has a word a character. All else is between words. Hashes are the same in every
process and on every machine.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence

import numpy as np

# ASCII and the lower-casing of it, in one pass over bytes; bytes of other letters (from 128) stay as they are.
_ASCII = bytes(
    byte if byte >= 128 else ord(chr(byte).lower()) if chr(byte).isalnum() else ord(" ") for byte in range(256)
)
_ALONE = re.compile(
    "([\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
)
_FACTOR = 0x9E3779B97F4A7C15
_POWERS = np.multiply.accumulate(np.full(256, _FACTOR, np.uint64))
_FIRST_BYTES = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)


@functools.cache
def _between_words() -> re.Pattern[str]:
    """Characters that are neither letter, mark nor digit, of all planes in which there are letters."""
    signs = [code for code in range(0x80, 0x20000) if unicodedata.category(chr(code))[0] not in "LMN"]
    ends = np.flatnonzero(np.diff(signs, append=-1) != 1)
    starts = np.concatenate([[0], ends[:-1] + 1])
    ranges = (f"{chr(signs[a])}-{chr(signs[b])}" for a, b in zip(starts, ends, strict=True))
    return re.compile(f"[{''.join(ranges)}\U000e0000-\U0010ffff]+")


def _spelled(text: str) -> bytes:
    if not text.isascii():
        text = unicodedata.normalize("NFC", text.casefold())
        text = _ALONE.sub(r" \1 ", _between_words().sub(" ", text))
    return text.encode("utf-8", "surrogatepass")


def plain(text: str) -> bytes:
    """The words of a text with one blank before each and one after the last, so that `in` finds whole words alone."""
    inside = b" ".join(_spelled(text).translate(_ASCII).split())
    return b" " + inside + b" "


def words(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(hashes uint64 [words], bounds int64 [texts + 1]): the words of text i are `hashes[bounds[i]:bounds[i + 1]]`."""
    spelled = [_spelled(text) for text in texts]
    raw = b" " + b" ".join(spelled).translate(_ASCII) + b" " * 9
    letters = np.frombuffer(raw, np.uint8) != 32
    edges = np.flatnonzero(letters[1:] != letters[:-1]) + 1
    starts, sizes = edges[::2], edges[1::2] - edges[::2]
    ends = np.cumsum([len(text) + 1 for text in spelled])
    bounds = np.concatenate([[0], np.searchsorted(starts, ends)]).astype(np.int64)
    # Eight bytes of each word at a time; few words have more.
    windows = np.ndarray((len(raw) - 7,), "<u8", raw, 0, (1,))
    hashes = mixed(windows[starts] & _FIRST_BYTES[np.minimum(sizes, 8)])
    longer, done = np.flatnonzero(sizes > 8), 8
    while len(longer):
        part = windows[starts[longer] + done] & _FIRST_BYTES[np.minimum(sizes[longer] - done, 8)]
        hashes[longer] = mixed(hashes[longer] * np.uint64(_FACTOR) + part)
        done += 8
        longer = longer[sizes[longer] > done]
    return hashes, bounds


def ngrams(hashes: np.ndarray, bounds: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(hashes uint64 [n-grams], bounds int64 [texts + 1]) of each run of n words of a text, of `words`' result.

    n is at most 256. A text of fewer words has none.
    """
    counts = np.maximum(np.diff(bounds) - n + 1, 0)
    out = np.concatenate([[0], np.cumsum(counts)])
    if not out[-1]:
        return np.zeros(0, np.uint64), out
    within = len(hashes) - n + 1
    sums = hashes[:within] * _POWERS[0]
    for k in range(1, n):
        sums += hashes[k : within + k] * _POWERS[k]
    return mixed(sums[ranges(bounds[:-1], counts)]), out


def ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`starts[0], starts[0] + 1, ...` (counts[0] of them), then those of starts[1], ...: int64 [sum of counts]."""
    before = np.cumsum(counts) - counts
    steps: np.ndarray = np.arange(counts.sum()) + np.repeat(starts - before, counts)
    return steps


def mixed(numbers: np.ndarray) -> np.ndarray:
    """Every bit of each uint64 spread over all bits: the finaliser of MurmurHash3. Changes the array."""
    numbers ^= numbers >> np.uint64(33)
    numbers *= np.uint64(0xFF51AFD7ED558CCD)
    numbers ^= numbers >> np.uint64(33)
    numbers *= np.uint64(0xC4CEB9FE1A85EC53)
    numbers ^= numbers >> np.uint64(33)
    return numbers
