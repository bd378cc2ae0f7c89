"""`split`: a column that says on which side a row is, such that what belongs together is on one side.

Together are: exact and near copies (steps/duplicates.py), by whatever chain; rows with equal values in the columns
`by`; a made row and the row it was made from. A made row, and whatever is together with it, is always learnt from,
never judged on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import numpy as np
import orjson
import pyarrow as pa
from pydantic import Field, model_validator

from whet.data.curation.contract import Decision, Record, Rows, SetStep
from whet.data.curation.texts import joined
from whet.data.near.clusters import components
from whet.data.near.minhash import bands_for
from whet.data.near.rows import Drawn, NearSettings, alike
from whet.errors import RowError

Share = Annotated[float, Field(ge=0, lt=1)]
TRAIN, VALIDATION, TEST = "train", "validation", "test"


class SplitSettings(NearSettings):
    """How much is set aside, and what is kept together."""

    validation: Share = 0.05
    """The share of rows for validation."""
    test: Share = 0.05
    """The share of rows for the test."""
    by: list[str] = []
    """Columns whose values each stay on one side."""
    column: Annotated[str, Field(min_length=1)] = "split"
    """Where it is written: train, validation or test."""

    @model_validator(mode="after")
    def _leaves_some(self) -> SplitSettings:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test leave nothing to train on")
        return self


class Split(SetStep):
    """Say of each row whether it is for training, validation or test; near copies and groups stay on one side."""

    settings = SplitSettings

    def __init__(self, settings: Any, context: Any) -> None:
        super().__init__(settings, context)
        self.bands = bands_for(settings.threshold)
        self.columns = tuple(settings.columns) or context.columns

    def schema(self) -> pa.Schema:
        names = ("place", "id", "made_from", *(f"by {name}" for name in self.set.by))
        return pa.schema([*Drawn.fields(self.bands), ("made", pa.bool_()), *((name, pa.uint64()) for name in names)])

    def features(self, records: Sequence[Record]) -> dict[str, Any]:
        texts = [joined(record.row, self.columns) for record in records]
        made = [record.row.get("made") for record in records]
        drawn = Drawn.of(texts, self.set.ngram, self.bands).columns()
        drawn |= {f"by {name}": [_value(record, name) for record in records] for name in self.set.by}
        return drawn | {
            "place": [_hash(record.place) for record in records],
            "id": [_hash(record.row.get("id")) for record in records],
            "made": [bool(how) for how in made],
            "made_from": [_hash(how.get("from") if isinstance(how, dict) else None) for how in made],
        }

    def decide(self, features: pa.Table, rows: Rows) -> Decision:
        drawn, made = Drawn.read(features), features["made"].to_numpy()

        def texts(numbers: np.ndarray) -> Iterator[str]:
            return (joined(record.row, self.columns) for record in rows.records(numbers.tolist()))

        pairs = alike(drawn, np.arange(rows.count), self.set, texts)
        by = [_same(features[f"by {name}"].to_numpy()) for name in self.set.by]
        origins = _origins(features)
        together = [(pairs.first, pairs.second), *by, origins]
        cluster = components(rows.count, *(np.concatenate(side) for side in zip(*together, strict=True)))
        sides = self._sides(cluster, made, drawn.exact)
        split = np.array([{self.set.column: name} for name in (TRAIN, VALIDATION, TEST)], object)[sides]
        sizes = np.bincount(cluster)
        notes: dict[str, Any] = {
            name: int((sides == number).sum()) for number, name in enumerate((TRAIN, VALIDATION, TEST))
        } | {"clusters of two rows and more": int((sizes > 1).sum()), "largest cluster": int(sizes.max())}
        if made.any():
            lost = int(made.sum()) - len(origins[0])
            notes |= {"made rows, all in train": int(made.sum()), "made rows whose origin is not here": lost}
        if pairs.cut:
            notes["comparisons left out of large buckets"] = pairs.cut
        return Decision(np.ones(rows.count, bool), columns=dict(enumerate(split.tolist())), notes=notes)

    def _sides(self, cluster: np.ndarray, made: np.ndarray, exact: np.ndarray) -> np.ndarray:
        """0, 1 or 2 [rows]. Clusters in an order drawn by seed and content fill the test, then the validation set.

        A cluster's luck hangs on the seed and on the least of its rows' hashes, so most rows stay on their side when
        others are added.
        """
        count = len(cluster)
        least = np.full(count, np.iinfo(np.uint64).max)
        np.minimum.at(least, cluster, exact)
        roots, sizes = np.unique(cluster, return_counts=True)
        free = ~np.isin(roots, np.unique(cluster[made]))
        side_of = np.zeros(count, np.int64)
        luck = [self._luck(int(content), int(root)) for content, root in zip(least[roots], roots, strict=True)]
        drawn = iter(sorted(zip(luck, roots.tolist(), sizes.tolist(), free.tolist(), strict=True)))
        waiting = [(root, size) for _, root, size, is_free in drawn if is_free]
        for side, share in ((2, self.set.test), (1, self.set.validation)):
            room = min(max(round(share * count), 1), count) if share else 0
            left = []
            for root, size in waiting:
                if size <= room:
                    side_of[root], room = side, room - size
                else:
                    left.append((root, size))
            if len(left) == len(waiting) and share:
                name = (TRAIN, VALIDATION, TEST)[side]
                raise RowError(
                    f"no cluster of rows fits {name}: {share:.1%} of {count:,} rows, and the smallest that is free has "
                    f"{min((size for _, size in left), default=0):,}", where="split",
                    do="raise the share, the threshold, or look at `by`: rows that belong together stay together",
                )  # fmt: skip
            waiting = left
        sides: np.ndarray = side_of[cluster]
        if sides.all():
            raise RowError(f"of {count:,} rows none is left to train on", where="split", do="lower validation or test")
        return sides

    def _luck(self, content: int, root: int) -> bytes:
        spelled = f"{self.context.seed} {content or f'row {root}'}".encode()
        return hashlib.blake2b(spelled, digest_size=16).digest()


def _hash(value: Any) -> int:
    """Of a value as JSON; 0 of None."""
    if value is None:
        return 0
    return int.from_bytes(hashlib.blake2b(orjson.dumps(value), digest_size=8).digest(), "little") or 1


def _value(record: Record, name: str) -> int:
    if name not in record.row:
        raise RowError(f"there is no column `{name}`", where=record.place, do="split.by names columns of every row")
    return _hash(record.row[name])


def _same(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of rows with equal values; none of rows whose value is null."""
    there = np.flatnonzero(values)
    _, first, which = np.unique(values[there], return_index=True, return_inverse=True)
    return there[first[which]], there


def _origins(features: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of an origin and a row made from it: the row at the place that `made.from` names, or of that id."""
    wanted = features["made_from"].to_numpy()
    made = np.flatnonzero(wanted)
    origin = np.full(len(made), -1)
    for name in ("id", "place"):
        values = features[name].to_numpy()
        order = np.argsort(values, kind="stable")
        at = order[np.minimum(np.searchsorted(values[order], wanted[made]), len(order) - 1)]
        origin = np.where(values[at] == wanted[made], at, origin)
    return origin[origin >= 0], made[origin >= 0]
