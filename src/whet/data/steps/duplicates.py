"""`duplicates`: of rows that are equal or nearly so, the best one stays. Also against held-out files, and by meaning.

Exact: equal but for case and runs of blanks. Near: the Jaccard of n-grams of words, candidates by MinHash, each
verified. By meaning: the cosine of embeddings that a service lends. A row is only dropped for a row that stays.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from whet.data.curation.contract import Decision, Record, Rows, SetStep
from whet.data.curation.held_out import check_paths, held_out_stage
from whet.data.curation.texts import joined
from whet.data.near.clusters import components, kept_for
from whet.data.near.meaning import kept_by_meaning, unit_vectors
from whet.data.near.minhash import bands_for
from whet.data.near.rows import Drawn, NearSettings, Pairs, alike, batches
from whet.errors import RecipeError, RowError

BATCH = 512
EXACT = "exact copy", "exact copy of a held-out row"
NEAR = "near copy", "near copy of a held-out row"
MEANING = "same meaning", "same meaning as a held-out row"


class DuplicatesSettings(NearSettings):
    """What counts as a duplicate, and which one stays."""

    keep: str = "longest"
    """Which row of a cluster stays: longest, first, or the name of a column of numbers (the highest)."""
    against: list[str] = []
    """Held-out files, which are not changed: rows that are near one of theirs are dropped."""
    meaning: Annotated[float, Field(gt=0, le=1)] | None = None
    """The cosine of two rows' embeddings from which on they mean the same. Needs the service `embed`."""


class Duplicates(SetStep):
    """Drop rows that are exact or near copies of a better row, or of a held-out one."""

    settings = DuplicatesSettings

    def __init__(self, settings: Any, context: Any) -> None:
        super().__init__(settings, context)
        self.bands = bands_for(settings.threshold)
        self.columns = tuple(settings.columns) or context.columns

    def schema(self) -> pa.Schema:
        # The engine asks for it where the run starts, before any row is read: the place for what must be there.
        check_paths(self.set.against)
        if self.set.meaning is not None and "embed" not in self.context.services:
            raise RecipeError(
                "to compare by meaning takes embeddings, and no service `embed` is lent", where="duplicates.meaning",
                do="give --embed MODEL; from Python, embed=function of texts -> array [texts, dimensions]",
            )  # fmt: skip
        return pa.schema([*Drawn.fields(self.bands), ("worth", pa.float64())])

    def features(self, records: Sequence[Record]) -> dict[str, Any]:
        texts = [joined(record.row, self.columns) for record in records]
        worth = [self._worth(record, text) for record, text in zip(records, texts, strict=True)]
        return Drawn.of(texts, self.set.ngram, self.bands).columns() | {"worth": worth}

    def _worth(self, record: Record, text: str) -> float:
        if self.set.keep == "first":
            return 0.0
        if self.set.keep == "longest":
            return float(len(text))
        value = record.row.get(self.set.keep)
        if isinstance(value, (int, float)):
            return float(value)
        raise RowError(
            f"`{self.set.keep}` is {value!r}, not a number", where=record.place,
            do="duplicates.keep is longest, first, or a column that has a number in every row",
        )  # fmt: skip

    def decide(self, features: pa.Table, rows: Rows) -> Decision:
        with tempfile.TemporaryDirectory(prefix="whet-") as folder:
            return _Search(self, features, rows, Path(folder)).decision()


class _Search:
    """Rows and held-out rows under one numbering: those of the held-out files follow."""

    def __init__(self, step: Duplicates, features: pa.Table, rows: Rows, folder: Path) -> None:
        self.set, self.columns, self.rows = step.set, step.columns, rows
        self.embed: Callable[[list[str]], Any] | None = step.context.services.get("embed")
        self.held, self.files = held_out_stage(self.set.against, folder / "held-out")
        texts = (joined(record.row, self.columns) for record in self.held.records())
        held = [Drawn.of(some, self.set.ngram, step.bands) for some in batches(texts, BATCH)]
        self.drawn = Drawn.joined([Drawn.read(features), *held])
        worth = np.concatenate([features["worth"].to_numpy(), np.full(self.held.count, np.inf)])
        self.order = np.lexsort((np.arange(len(worth)), -worth))  # best first, of equals the first

    def texts(self, numbers: np.ndarray) -> Iterator[str]:
        """The texts of the rows with these numbers, which ascend."""
        own = int(np.searchsorted(numbers, self.rows.count))
        for source, wanted in ((self.rows, numbers[:own]), (self.held, numbers[own:] - self.rows.count)):
            for record in source.records(wanted.tolist()):
                yield joined(record.row, self.columns)

    def decision(self) -> Decision:
        total = len(self.order)
        self._check_text()
        pairs = alike(self.drawn, self.order, self.set, self.texts)
        pairs = pairs.only((pairs.first < self.rows.count) | (pairs.second < self.rows.count))
        place = np.empty(total, np.int64)
        place[self.order] = np.arange(total)
        near = pairs.only(~pairs.exact)
        kept, similar = kept_for(total, place[near.first], place[near.second], near.jaccard)
        for_whom = np.full(total, -1)  # by row number, from here on
        for_whom[self.order] = np.where(kept >= 0, self.order[kept], -1)
        how = similar[place]
        best, copy = (of[pairs.exact] for of in (pairs.first, pairs.second))
        gone = for_whom[best] >= 0  # an exact copy of what is dropped goes for the same row
        for_whom[copy] = np.where(gone, for_whom[best], best)
        how[copy] = np.where(gone, how[best], 1.0)
        means = self._by_meaning(for_whom, how) if self.set.meaning is not None else np.zeros(0, np.int64)
        return self._decided(for_whom, how, means, pairs)

    def _check_text(self) -> None:
        own, held = np.split(self.drawn.exact, [self.rows.count])
        for exact, what in ((own, "row"), (held, "held-out row")):
            if len(exact) and not exact.any():
                columns = f" in {', '.join(self.columns)}" if self.columns else ""
                raise RowError(f"no {what} has text{columns}", where="duplicates", do="name the columns: columns=[...]")

    def _by_meaning(self, for_whom: np.ndarray, how: np.ndarray) -> np.ndarray:
        """Drop, among what is left, what means the same as something better; the numbers of what was dropped."""
        left = np.flatnonzero((for_whom < 0) & (self.drawn.exact != 0))
        left = left[np.argsort(np.argsort(self.order)[left])]
        vectors = self._vectors(left)
        kept, cosine = kept_by_meaning(vectors, self.set.meaning, held=int((left >= self.rows.count).sum()))
        gone = np.flatnonzero(kept >= 0)
        # A copy of what goes now is compared with the row that stays, and stays itself if the two differ in meaning.
        lost = np.flatnonzero(np.isin(for_whom, left[gone]))
        if len(lost):
            new = np.full(len(for_whom), -1)
            new[left[gone]] = kept[gone]
            whom = new[for_whom[lost]]
            how[lost] = (self._vectors(lost) * vectors[whom]).sum(axis=1)
            for_whom[lost] = np.where(how[lost] >= self.set.meaning, left[whom], -1)
        for_whom[left[gone]], how[left[gone]] = left[kept[gone]], cosine[gone]
        return np.concatenate([left[gone], lost])

    def _vectors(self, numbers: np.ndarray) -> np.ndarray:
        """Embeddings of the texts of these rows, in their order."""
        assert self.embed is not None
        order = np.argsort(numbers)
        parts = [unit_vectors(self.embed(some), len(some)) for some in batches(self.texts(numbers[order]), BATCH)]
        return np.concatenate(parts)[np.argsort(order)]

    def _decided(self, for_whom: np.ndarray, how: np.ndarray, means: np.ndarray, pairs: Pairs) -> Decision:
        count = self.rows.count
        gone = np.flatnonzero(for_whom[:count] >= 0)
        keepers = np.unique(for_whom[gone])
        own = int(np.searchsorted(keepers, count))
        records = chain(self.rows.records(keepers[:own].tolist()), self.held.records((keepers[own:] - count).tolist()))
        places = {keeper: record.place for keeper, record in zip(keepers.tolist(), records, strict=True)}
        by_meaning = np.isin(gone, means)
        exact = self.drawn.exact[gone] == self.drawn.exact[for_whom[gone]]
        why = {}
        for row, whom, similar, meant, same in zip(
            *(array.tolist() for array in (gone, for_whom[gone], how[gone], by_meaning, exact)), strict=True
        ):
            reason = MEANING if meant else EXACT if same else NEAR
            measure = "cosine" if meant else "Jaccard"
            why[row] = (reason[whom >= count], f"{places[whom]}, {measure} {similar:.3f}")
        keep = np.ones(count, bool)
        keep[gone] = False
        return Decision(keep, why, notes=self._notes(pairs))

    def _notes(self, pairs: Pairs) -> dict[str, Any]:
        count = self.rows.count
        own = pairs.only((pairs.first < count) & (pairs.second < count))
        _, sizes = np.unique(components(count, own.first, own.second), return_counts=True)
        notes: dict[str, Any] = {
            "clusters": int((sizes > 1).sum()), "largest cluster": int(sizes.max()),
            "without text": int((self.drawn.exact[:count] == 0).sum()),
            "compared exactly only": int(((self.drawn.words < self.set.ngram) & (self.drawn.exact != 0))[:count].sum()),
        }  # fmt: skip
        if self.files:
            notes["against"] = self.files
        if pairs.cut:
            notes["comparisons left out of large buckets"] = pairs.cut
        return notes
