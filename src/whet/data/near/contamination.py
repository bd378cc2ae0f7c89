"""Which rows contain a piece of an evaluation set: runs of words, hashed, in sorted arrays behind a filter.

A text of the evaluation set that has n words or more is known by any n of them in a run, one of `shortest` to n - 1
words by all of it. Fewer words are said by many: a row's question that short counts where a whole text is just it, or
where it is found as a run in a row that has (most of) the evaluation row's other texts too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from whet.data.near.ngrams import mixed, ngrams, plain, ranges, words

FILTER_BITS = 27
"""The filter has at most 2^27 bytes."""
READ = 512
"""Evaluation rows at a time."""


class Found(NamedTuple):
    """What a row contains: the evaluation row's number, and of how many words the run is that they share."""

    row: int
    words: int


class _Words(NamedTuple):
    """Texts as `ngrams.words` gives them, and the row of each."""

    hashes: np.ndarray
    bounds: np.ndarray
    owner: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[Sequence[str]], first: int = 0) -> _Words:
        """The texts of rows, one after another; rows are numbered from `first`."""
        owner = np.repeat(np.arange(first, first + len(rows)), [len(row) for row in rows])
        return cls(*words([text for row in rows for text in row]), owner)

    def runs(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """(hashes, the text of each) of all runs of so many words; those of another length never meet them."""
        hashes, bounds = ngrams(self.hashes, self.bounds, size)
        return mixed(hashes + np.uint64(size)), np.repeat(np.arange(len(self.owner)), np.diff(bounds))

    def only(self, chosen: np.ndarray) -> _Words:
        """Some of the texts: their numbers, ascending."""
        counts = np.diff(self.bounds)[chosen]
        inner = np.concatenate([[0], np.cumsum(counts)])
        return _Words(self.hashes[ranges(self.bounds[:-1][chosen], counts)], inner, self.owner[chosen])


class _Lookup:
    """Runs of words of the evaluation rows, found by hash. 16 bytes each, and the filter."""

    def __init__(self) -> None:
        self.sizes: set[int] = set()
        self._hashes, self._owners = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]

    def add(self, texts: _Words, size: int) -> None:
        """All runs of so many words."""
        if len(texts.owner):
            hashes, of = texts.runs(size)
            self.sizes.add(size)
            self._hashes.append(hashes)
            self._owners.append(texts.owner[of])

    def close(self) -> None:
        """All is added."""
        hashes, owners = np.concatenate(self._hashes), np.concatenate(self._owners)
        order = np.lexsort((owners, hashes))
        self.hashes, self.owners = hashes[order], owners[order]
        self._hashes, self._owners = [], []
        bits = min(FILTER_BITS, len(hashes).bit_length() + 4)
        self._shift = np.uint64(64 - bits)
        self._filter = np.zeros(1 << bits, bool)
        self._filter[self.hashes >> self._shift] = True

    def hits(self, texts: _Words, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(text, first, end): texts that have a known run of this size, and where in `owners` its rows are."""
        hashes, of = texts.runs(size)
        maybe = np.flatnonzero(self._filter[hashes >> self._shift])
        first, end = (np.searchsorted(self.hashes, hashes[maybe], side) for side in ("left", "right"))
        known = first < end
        return of[maybe[known]], first[known], end[known]


class Index:
    """Evaluation rows, each a list of texts, the question first. `n`, `shortest`: see above.

    `share`: of the texts beside a short question, so many must be found with it.
    """

    def __init__(self, rows: Iterable[Sequence[str]], n: int, shortest: int, share: float) -> None:
        self.n, self.shortest, self.share = n, min(shortest, n), share
        self.runs, self.short = _Lookup(), _Lookup()
        self.beside: dict[int, list[bytes]] = {}
        self.count, numbered = 0, iter(rows)
        while some := list(islice(numbered, READ)):
            self._add(some)
            self.count += len(some)
        self.runs.close()
        self.short.close()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to be found."""
        return not (self.runs.sizes or self.short.sizes)

    def _add(self, rows: list[Sequence[str]]) -> None:
        texts = _Words.of(rows, self.count)
        counts = np.diff(texts.bounds)
        for size in range(self.shortest, self.n + 1):
            self.runs.add(texts.only(np.flatnonzero(counts >= size if size == self.n else counts == size)), size)
        spoken = np.flatnonzero(counts)
        _, first = np.unique(texts.owner[spoken], return_index=True)
        questions = spoken[first]  # of each row the first text with words
        for size in range(1, self.shortest):
            of_size = questions[counts[questions] == size]
            self.short.add(texts.only(of_size), size)
            for text, row in zip(of_size.tolist(), texts.owner[of_size].tolist(), strict=True):
                of_row = rows[row - self.count]
                others = of_row[text - int(np.searchsorted(texts.owner, row)) + 1 :]
                self.beside[row] = [spelled for other in others if (spelled := plain(other)).strip()]

    def find(self, rows: Sequence[Sequence[str]]) -> list[Found | None]:
        """For each row, as its texts, an evaluation row of which it contains a piece; longer pieces go first."""
        texts = _Words.of(rows)
        counts = np.diff(texts.bounds)
        found: list[Found | None] = [None] * len(rows)
        for size in sorted(self.runs.sizes, reverse=True):
            at, first, _ = self.runs.hits(texts, size)
            for row, number in zip(texts.owner[at].tolist(), self.runs.owners[first].tolist(), strict=True):
                found[row] = found[row] or Found(number, size)
        for size in sorted(self.short.sizes, reverse=True):
            at, *rest = self.short.hits(texts, size)
            hits = (texts.owner[at], counts[at] == size, *rest)
            for row, is_whole, a, b in zip(*(array.tolist() for array in hits), strict=True):
                if found[row] is None:
                    numbers = self.short.owners[a:b].tolist()
                    number = numbers[0] if is_whole else self._with_its_texts(numbers, rows[row])
                    found[row] = None if number is None else Found(number, size)
        return found

    def _with_its_texts(self, numbers: list[int], texts: Sequence[str]) -> int | None:
        """The first of these evaluation rows whose other texts are (as good as all) in these texts as well."""
        inside = b"\n".join(plain(text) for text in texts)
        for number in numbers:
            beside = self.beside[number]
            if beside and sum(text in inside for text in beside) >= self.share * len(beside):
                return number
        return None
