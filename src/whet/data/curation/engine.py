"""Steps over a stage by daft: a stream of blocks through processes on all cores, or on a Ray cluster, in order.

Nothing here depends on how daft cuts the stream: whatever the machine, the result is the same to the byte.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import orjson
import pyarrow as pa

from whet.data.curation.contract import Context, Outcome, Record, RowStep, SetStep
from whet.data.curation.ledger import EXAMPLES, digest, excerpts
from whet.data.curation.settings import make_step
from whet.data.curation.stage import Stage, spelled
from whet.data.curation.texts import joined
from whet.errors import MissingExtra, RowError, RunError, WhetError

BATCH = 512
"""Rows a call of a step."""
FEW = 2000
"""So many rows are done here: starting processes costs more than they save."""

Spec = tuple[str, dict[str, Any]]
"""A step's name and its settings."""


def daft_module(ray: str | None = None) -> Any:
    """daft, set up: without reports to its makers, without bars of its own; on a Ray cluster if an address is given."""
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("DAFT_PROGRESS_BAR", "0")
    try:
        import daft
    except ImportError:
        raise MissingExtra("daft", "data", "curating rows") from None
    if ray and ray not in _joined:
        _connect(ray)
        daft.set_runner_ray(address=ray)
        _joined.add(ray)
    return daft


_joined: set[str] = set()
"""The cluster that this process works on: daft takes one, once."""


def _connect(address: str) -> None:
    """Join the cluster as a driver that prints nothing of the workers' own bars. Raises RunError if none answers."""
    try:
        import ray
    except ImportError:
        raise MissingExtra("ray", "ray", "running on a cluster") from None
    if ray.is_initialized():
        return
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        what = f"no Ray cluster answers: {str(error).splitlines()[0]}"
        raise RunError(what, where=address, do="start one: ray start --head") from error


def _workers() -> int:
    """How many processes there are cores for: of the cluster where one is joined, else of this machine."""
    import sys

    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        return max(int(sys.modules["ray"].cluster_resources().get("CPU", 1)), 1)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Chain:
    """Several RowSteps, one after another on a batch of rows. Made in each process from names and settings alone."""

    def __init__(self, specs: list[Spec], context: Context) -> None:
        self.specs, self.context = specs, context
        self.steps: list[RowStep] | None = None

    def __call__(self, indices: list[int], places: list[str], rows: list[str]) -> tuple[list[str], list[bytes | None]]:
        """(rows as JSON, logs). A dropped row is as it was before that step, or as that step wants it kept.

        A log is None for a row that nothing happened to; else JSON: `does` [[step, reasons, detail, before, after,
        digest of the new row]], `dropped` the step's number, `seconds` by step on a batch's first row, `fault` [what,
        where, do].
        """
        if self.steps is None:
            self.steps = [make_step(name, settings, self.context) for name, settings in self.specs]  # type: ignore[misc]
        logs: list[dict[str, Any]] = [{} for _ in rows]
        alive = [Record(i, p, orjson.loads(r)) for i, p, r in zip(indices, places, rows, strict=True)]
        first, spent, out = indices[0], [], list(rows)
        try:
            for number, step in enumerate(self.steps):
                begin = time.perf_counter()
                outcomes = step(alive)
                spent.append(time.perf_counter() - begin)
                alive = self._taken(number, alive, outcomes, logs, out, first, step.private)
        except WhetError as error:
            logs[0]["fault"] = [error.what, error.where, error.do]
        logs[0]["seconds"] = spent
        return out, [orjson.dumps(log) if log else None for log in logs]

    def _taken(
        self, number: int, alive: list[Record], outcomes: list[Outcome], logs: list[dict[str, Any]],
        out: list[str], first: int, private: bool,
    ) -> list[Record]:  # fmt: skip
        left: list[Record] = []
        shown: Counter[str] = Counter()
        for record, (row, reasons, detail, reject) in zip(alive, outcomes, strict=True):
            if row is record.row:
                left.append(record)
                continue
            at = record.number - first
            before, after = "", ""
            shown[reasons[0]] += 1
            if shown[reasons[0]] <= EXAMPLES:  # so the first ten of all are among these, however rows are cut
                columns = self.context.columns
                if private:
                    after = detail
                else:
                    new = None if row is None else joined(row, columns)
                    before, after = excerpts(joined(record.row, columns), new)
            if row is None:
                logs[at]["dropped"] = number
                if reject is not None:
                    out[at] = spelled(reject)
            else:
                out[at] = spelled(row)
                left.append(Record(record.number, record.place, row))
            does = [number, list(reasons), detail, before, after, "" if row is None else digest(out[at])]
            logs[at].setdefault("does", []).append(does)
        return left


def run_chain(stage: Stage, specs: list[Spec], context: Context, ray: str | None) -> Iterator[tuple[Any, ...]]:
    """(index, place, row as JSON, log) for each row of a stage, in order, after a chain of RowSteps."""
    chain = Chain(specs, replace(context, services={}))  # they hold models, which do not travel

    def work(indices: list[int], places: list[str], rows: list[str]) -> list[pa.Array]:
        done, logs = chain(indices, places, rows)
        return [pa.array(places, pa.string()), pa.array(done, pa.string()), pa.array(logs, pa.binary())]

    schema = pa.schema([("place", pa.string()), ("row", pa.string()), ("log", pa.binary())])
    for block in _mapped(stage, work, schema, ray):
        yield from zip(*(column.to_pylist() for column in block.columns), strict=True)


def survey(
    stage: Stage, name: str, settings: dict[str, Any], step: SetStep, context: Context, ray: str | None
) -> pa.Table:
    """The features that a SetStep draws from each row, in order of row number."""
    schema = step.schema()
    drawn: dict[str, SetStep] = {}
    state, context = step.state, replace(context, services={})  # a model stays on the driver, where `decide` may ask it

    def work(indices: list[int], places: list[str], rows: list[str]) -> list[pa.Array]:
        if "step" not in drawn:
            drawn["step"] = make_step(name, settings, context)  # type: ignore[assignment]
            drawn["step"].state = state
        records = [Record(i, p, orjson.loads(r)) for i, p, r in zip(indices, places, rows, strict=True)]
        try:
            found, fault = drawn["step"].features(records), None
        except WhetError as error:
            found, fault = {}, orjson.dumps([error.what, error.where, error.do])
        arrays = [pa.array(found[f.name], f.type) if found else pa.nulls(len(records), f.type) for f in schema]
        return [*arrays, pa.array([fault] * len(records), pa.binary())]

    blocks = []
    for block in _mapped(stage, work, schema.append(pa.field("fault", pa.binary())), ray):
        for fault in filter(None, block["fault"].to_pylist()):
            raise_fault(orjson.loads(fault))
        blocks.append(block.drop_columns(["fault", "index"]))
    return pa.concat_tables(blocks)


def raise_fault(fault: list[str | None]) -> None:
    """A step's error that came back from another process. Always raises RowError."""
    raise RowError(str(fault[0]), where=fault[1], do=fault[2])


Work = Callable[[list[int], list[str], list[str]], list[pa.Array]]
"""Numbers, places and rows of a batch -> the columns of a schema."""


def _mapped(stage: Stage, work: Work, schema: pa.Schema, ray: str | None) -> Iterator[pa.Table]:
    """Tables of `index` and the schema's columns, in order of row number."""
    if stage.count <= FEW and ray is None:
        for block in stage.blocks():
            for start in range(0, len(block), BATCH):
                part = block.slice(start, BATCH)
                arrays = work(*(column.to_pylist() for column in part.columns))
                yield pa.table([part.column(0), *arrays], names=["index", *schema.names])
        return
    daft = daft_module(ray)
    kind = daft.DataType.struct({field.name: daft.DataType.from_arrow_type(field.type) for field in schema})

    class Worker:
        @daft.method.batch(return_dtype=kind, batch_size=BATCH)
        def run(self, index: Any, place: Any, row: Any) -> Any:
            return pa.StructArray.from_arrays(work(index.to_pylist(), place.to_pylist(), row.to_pylist()), schema.names)

    # In processes, not threads: steps keep what they have learnt of words, and need not guard it.
    worker = daft.cls(Worker, use_process=True, max_concurrency=_workers())
    frame = daft.read_parquet([str(path) for path in stage.files])
    found = worker().run(*(daft.col(name) for name in ("index", "place", "row")))
    for block in _in_order(frame.select("index", found.alias("out"))):
        out = block["out"].combine_chunks()
        yield pa.table([block["index"], *(out.field(name) for name in schema.names)], names=["index", *schema.names])


def _in_order(frame: Any) -> Iterator[pa.Table]:
    """The blocks of a result in order of row number, whatever the order they come in."""
    waiting: dict[int, pa.Table] = {}
    due = 0
    for block in frame.iter_partitions():
        table = block.to_arrow() if hasattr(block, "to_arrow") else _fetched(block)
        for piece in _runs(table):
            waiting[piece["index"][0].as_py()] = piece
        while due in waiting:
            piece = waiting.pop(due)
            due += len(piece)
            yield piece
    if waiting:
        raise RuntimeError(f"rows {due} to {min(waiting) - 1} did not come back")


def _fetched(block: Any) -> pa.Table:
    import ray

    return ray.get(block).to_arrow()


def _runs(table: pa.Table) -> Iterator[pa.Table]:
    """The pieces of a table whose row numbers follow each other without a gap."""
    import numpy as np

    index = table["index"].to_numpy()
    ends = [*(np.flatnonzero(np.diff(index) != 1) + 1).tolist(), len(index)] if len(index) else []
    start = 0
    for end in ends:
        yield table.slice(start, end - start)
        start = end
