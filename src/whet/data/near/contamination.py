"""Which rows contain a piece of an evaluation set: runs of words, hashed, in sorted arrays behind a filter.

A text of the evaluation set that has n words or more is known by any n of them in a run, one of `shortest` to n - 1 words
by all of it. Fewer words are said by many: a row's question that short counts where a whole text is just it, or where
it is found as a run in a row that has (most of) the evaluation row's other texts too.
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


class _Lookup:
    """Hashes with the numbers of the evaluation rows that they come from. 16 bytes each, and the filter."""

    def __init__(self, hashes: list[np.ndarray], owners: list[np.ndarray]) -> None:
        every = np.concatenate(hashes) if hashes else np.zeros(0, np.uint64)
        of = np.concatenate(owners) if owners else np.zeros(0, np.int64)
        order = np.lexsort((of, every))
        self.hashes, self.owners = every[order], of[order]
        self.shift = np.uint64(64 - min(FILTER_BITS, len(every).bit_length() + 4))
        self.filter = np.zeros(1 << (64 - int(self.shift)), bool)
        self.filter[self.hashes >> self.shift] = True

    def hits(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(positions in `hashes`, first owner, end of owners) of those that are known."""
        maybe = np.flatnonzero(self.filter[hashes >> self.shift])
        first, end = (np.searchsorted(self.hashes, hashes[maybe], side) for side in ("left", "right"))
        known = first < end
        return maybe[known], first[known], end[known]


class Index:
    """Evaluation rows, each a list of texts, the question first. `n`, `shortest`: see above.

    `share`: of the texts beside a short question, so many must be found with it.
    """

    def __init__(self, rows: Iterable[Sequence[str]], n: int, shortest: int, share: float) -> None:
        self.n, self.shortest, self.share = n, min(shortest, n), share
        runs: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        short: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        self.sizes, self.short_sizes = set(), set()
        self.beside: dict[int, list[bytes]] = {}
        numbered, done = iter(rows), 0
        while some := list(islice(numbered, READ)):
            self._add(some, done, runs, short)
            done += len(some)
        self.count = done
        self.runs, self.short = _Lookup(*runs), _Lookup(*short)

    def _add(self, rows: list[Sequence[str]], done: int, runs: tuple[list[np.ndarray], ...],
             short: tuple[list[np.ndarray], ...]) -> None:  # fmt: skip
        texts = [text for row in rows for text in row]
        hashes, bounds = words(texts)
        counts = np.diff(bounds)
        owner = np.repeat(np.arange(done, done + len(rows)), [len(row) for row in rows])
        for size in range(self.shortest, self.n + 1):
            chosen = counts >= size if size == self.n else counts == size
            self._note(size, chosen, hashes, bounds, owner, runs, self.sizes)
        _, firsts = np.unique(np.where(counts > 0, owner, -1), return_index=True)
        questions = firsts[counts[firsts] > 0]  # of each row the first text with words
        few = questions[counts[questions] < self.shortest]
        for size in set(counts[few].tolist()):
            self._note(size, np.isin(np.arange(len(texts)), few[counts[few] == size]), hashes, bounds, owner, short, self.short_sizes)
        for text, row in zip(few.tolist(), owner[few].tolist(), strict=True):
            of_row = rows[row - done]
            at = text - int(np.searchsorted(owner, row))
            self.beside[row] = [words_of for other in of_row[at + 1 :] if (words_of := plain(other)).strip()]

    def _note(self, size: int, chosen: np.ndarray, hashes: np.ndarray, bounds: np.ndarray, owner: np.ndarray,
              into: tuple[list[np.ndarray], ...], sizes: set[int]) -> None:  # fmt: skip
        if chosen.any():
            counts = np.diff(bounds)[chosen]
            inner = np.concatenate([[0], np.cumsum(counts)])
            found, of = ngrams(hashes[ranges(bounds[:-1][chosen], counts)], inner, size)
            into[0].append(_salted(found, size))
            into[1].append(np.repeat(owner[chosen], np.diff(of)))
            sizes.add(size)

    def find(self, rows: Sequence[Sequence[str]]) -> list[Found | None]:
        """For each row, given as its texts, an evaluation row of which it contains a piece; the longest piece counts."""
        texts = [text for row in rows for text in row]
        owner = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        hashes, bounds = words(texts)
        counts = np.diff(bounds)
        found: list[Found | None] = [None] * len(rows)
        for size in sorted(self.sizes, reverse=True):
            at, first, _ = self._hits(self.runs, hashes, bounds, size)
            for row, number in zip(owner[at].tolist(), self.runs.owners[first].tolist(), strict=True):
                found[row] = found[row] or Found(number, size)
        for size in sorted(self.short_sizes, reverse=True):
            at, first, end = self._hits(self.short, hashes, bounds, size)
            whole = counts[at] == size
            for row, is_whole, a, b in zip(owner[at].tolist(), whole.tolist(), first.tolist(), end.tolist(), strict=True):
                if found[row] is None:
                    numbers = self.short.owners[a:b].tolist()
                    number = numbers[0] if is_whole else self._with_its_texts(numbers, rows[row])
                    found[row] = None if number is None else Found(number, size)
        return found

    def _hits(self, lookup: _Lookup, hashes: np.ndarray, bounds: np.ndarray, size: int) -> tuple[np.ndarray, ...]:
        """(texts, first owner, end of owners) for the runs of so many words that are known."""
        of_texts, inner = ngrams(hashes, bounds, size)
        at, first, end = lookup.hits(_salted(of_texts, size))
        return np.searchsorted(inner, at, side="right") - 1, first, end

    def _with_its_texts(self, numbers: list[int], texts: Sequence[str]) -> int | None:
        """The first of these evaluation rows whose other texts are (as good as all) in these texts as well."""
        inside = b"\n".join(plain(text) for text in texts)
        for number in numbers:
            beside = self.beside[number]
            if beside and sum(text in inside for text in beside) >= self.share * len(beside):
                return number
        return None


def _salted(hashes: np.ndarray, size: int) -> np.ndarray:
    """Runs of different lengths never meet."""
    return mixed(hashes + np.uint64(size))
