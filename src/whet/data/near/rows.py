"""Rows that are alike, out of features that are drawn once from each: exact copies, then near ones, verified."""

from __future__ import annotations

import hashlib
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field

from whet.data.near.minhash import Bands, band_keys
from whet.data.near.ngrams import ngrams, words
from whet.data.near.pairs import Sets, in_company, near_pairs, sets_of
from whet.recipe.part import Part

IN_MEMORY = 1 << 28
"""Shingles of candidates held in memory (4 bytes each); more of them lie on disk."""
READ = 512
"""Texts at a time."""


class NearSettings(Part):
    """Which rows are near each other."""

    threshold: Annotated[float, Field(gt=0, le=1)] = 0.8
    """The Jaccard of two rows' sets of n-grams from which on they are near."""
    ngram: Annotated[int, Field(ge=1, le=256)] = 5
    """Words of an n-gram. A row of fewer words is compared exactly only."""
    columns: list[str] = []  # noqa: RUF012 (pydantic copies defaults)
    """The columns that are compared. None: those that hold text."""


class Pairs(NamedTuple):
    """Pairs of rows, by number; `first` is the preferred one. Exact copies are paired with the first of them alone."""

    first: np.ndarray
    second: np.ndarray
    jaccard: np.ndarray
    exact: np.ndarray
    cut: int
    """So many comparisons were left out (see near.pairs)."""

    def only(self, chosen: np.ndarray) -> Pairs:
        """Some of them: bool [pairs]."""
        return Pairs(self.first[chosen], self.second[chosen], self.jaccard[chosen], self.exact[chosen], self.cut)


def normal(text: str) -> str:
    """What two exact copies have in common: Unicode form NFC, case folded, one blank for any run of them."""
    folded = text.lower() if text.isascii() else unicodedata.normalize("NFC", text.casefold())
    return " ".join(folded.split())


@dataclass
class Drawn:
    """Features of rows: `exact` uint64 [rows] (0 without text), `words` int32 [rows], `keys` uint32 [rows, bands]."""

    exact: np.ndarray
    words: np.ndarray
    keys: np.ndarray

    @staticmethod
    def fields(bands: Bands) -> list[tuple[str, pa.DataType]]:
        """Their names and types in a table."""
        return [("exact", pa.uint64()), ("words", pa.int32()), ("keys", pa.binary(4 * bands.number))]

    @classmethod
    def of(cls, texts: Sequence[str], ngram: int, bands: Bands) -> Drawn:
        """Draw them from texts."""
        hashes, bounds = words(texts)
        keys = band_keys(*ngrams(hashes, bounds, ngram), bands)
        plain = (normal(text) for text in texts)
        exact = [_hash(text) if text else 0 for text in plain]
        return cls(np.array(exact, np.uint64), np.diff(bounds).astype(np.int32), keys)

    @classmethod
    def read(cls, table: pa.Table) -> Drawn:
        """Out of a table with `fields`."""
        keys = table["keys"].combine_chunks()
        raw = np.frombuffer(keys.buffers()[1], np.uint32)
        width = keys.type.byte_width // 4
        keys = raw[keys.offset * width : (keys.offset + len(keys)) * width].reshape(-1, width)
        return cls(table["exact"].to_numpy(), table["words"].to_numpy(), keys)

    def columns(self) -> dict[str, Any]:
        """As a step's `features` returns them."""
        return {"exact": self.exact, "words": self.words, "keys": [key.tobytes() for key in self.keys]}

    @classmethod
    def joined(cls, parts: Sequence[Drawn]) -> Drawn:
        """Those of all parts, one after another."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("exact", "words", "keys")))


Texts = Callable[[np.ndarray], Iterable[str]]


def _hash(text: str) -> int:
    raw = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(raw, "little") or 1


def alike(drawn: Drawn, order: np.ndarray, settings: NearSettings, texts: Texts) -> Pairs:
    """The pairs of rows that are exact copies or near. `order` is all row numbers, the preferred ones first.

    `texts(numbers)` yields the texts of the rows with these numbers, which ascend; it is asked for candidates only.
    """
    of = order[drawn.exact[order] != 0]
    _, first, which = np.unique(drawn.exact[of], return_index=True, return_inverse=True)
    best = of[first[which]]
    copy = of != best
    a, b, alone = best[copy], of[copy], of[~copy]
    alone = alone[drawn.words[alone] >= settings.ngram]
    alone = alone[in_company(drawn.keys[alone])]
    ascending = np.sort(alone)
    sets = read_sets(texts(ascending), drawn.words[ascending], settings.ngram)
    near = near_pairs(drawn.keys[alone], sets[np.searchsorted(ascending, alone)], settings.threshold)
    first, second = alone[near.first], alone[near.second]
    exact = np.concatenate([np.ones(len(a), bool), np.zeros(len(first), bool)])
    similar = np.concatenate([np.ones(len(a)), near.jaccard])
    return Pairs(np.concatenate([a, first]), np.concatenate([b, second]), similar, exact, near.cut)


def read_sets(texts: Iterable[str], sizes: np.ndarray, ngram: int) -> Sets:
    """The sets of shingles of texts that have so many words (`sizes`), in their order."""
    most = int((sizes.astype(np.int64) - ngram + 1).sum())
    values: Any = np.empty(min(most, IN_MEMORY), np.uint32)
    if most > IN_MEMORY:
        with tempfile.NamedTemporaryFile(prefix="whet-") as file:
            values = np.memmap(file.name, np.uint32, "w+", shape=(most,))
    counts: list[np.ndarray] = []
    filled = 0
    for some in batches(texts, READ):
        part = sets_of(*ngrams(*words(some), ngram))
        values[filled : filled + len(part.values)] = part.values
        filled += len(part.values)
        counts.append(part.sizes)
    count = np.concatenate(counts) if counts else np.zeros(0, np.int64)
    return Sets(values, np.cumsum(count) - count, count)


def batches(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """Lists of `size` texts; the last may be shorter."""
    waiting: list[str] = []
    for text in texts:
        waiting.append(text)
        if len(waiting) == size:
            yield waiting
            waiting = []
    if waiting:
        yield waiting
