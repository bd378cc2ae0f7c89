"""Rows on disk between steps: in order, in blocks, never all in memory.

A stage is a folder of Parquet files with the columns `index` (int64, from 0), `place` and `row` (JSON). A row stays
JSON because rows of one file may differ in their columns and types, and nothing of them may be lost on the way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
from pyarrow import parquet

from whet.data.curation.contract import Record

BLOCK_ROWS, BLOCK_BYTES, FILE_BYTES = 4096, 8 << 20, 128 << 20
SCHEMA = pa.schema([("index", pa.int64()), ("place", pa.string()), ("row", pa.string())])


def spelled(row: Any) -> str:
    """A row as JSON, the same for equal rows whose keys come in one order."""
    return orjson.dumps(row).decode()


class StageWriter:
    """Writes a stage, row by row; a context manager, whose exit closes the last file."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder, self.count, self.bytes = folder, 0, 0
        self.files: list[Path] = []
        self._writer: parquet.ParquetWriter | None = None
        self._places: list[str] = []
        self._rows: list[str] = []
        self._waiting = 0

    def add(self, place: str, row: str) -> None:
        """The next row, already JSON."""
        self._places.append(place)
        self._rows.append(row)
        self._waiting += len(row)
        if len(self._rows) >= BLOCK_ROWS or self._waiting >= BLOCK_BYTES:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._writer is None:
            self.files.append(self.folder / f"{len(self.files):05}.parquet")
            self._writer, self.bytes = parquet.ParquetWriter(self.files[-1], SCHEMA, compression="lz4"), 0
        numbers = range(self.count, self.count + len(self._rows))
        self._writer.write_table(pa.table([numbers, self._places, self._rows], schema=SCHEMA))
        self.count += len(self._rows)
        self.bytes += self._waiting
        self._places, self._rows, self._waiting = [], [], 0
        if self.bytes >= FILE_BYTES:
            self._close_file()

    def _close_file(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def close(self) -> Stage:
        """The finished stage."""
        self._flush()
        self._close_file()
        return Stage(self.files, self.count)


class Stage:
    """A finished stage, to be read as often as needed."""

    def __init__(self, files: list[Path], count: int) -> None:
        self.files, self.count = files, count

    def blocks(self) -> Iterator[pa.RecordBatch]:
        """Blocks in order, one in memory at a time."""
        for path in self.files:
            with parquet.ParquetFile(path) as file:
                for number in range(file.num_row_groups):
                    yield from file.read_row_group(number).to_batches()

    def lines(self) -> Iterator[tuple[int, str, str]]:
        """(index, place, row as JSON) in order."""
        for block in self.blocks():
            yield from zip(*(block.column(number).to_pylist() for number in range(3)), strict=True)

    def records(self, indices: Iterable[int] | None = None) -> Iterator[Record]:
        """The rows with these numbers (all, if None), in order of number."""
        if indices is None:
            yield from (Record(index, place, orjson.loads(row)) for index, place, row in self.lines())
            return
        wanted = sorted(set(indices))
        at = 0
        for block in self.blocks():
            first, size = block.column(0)[0].as_py(), len(block)
            end = at
            while end < len(wanted) and wanted[end] < first + size:
                end += 1
            for index in wanted[at:end]:
                place, row = (block.column(number)[index - first].as_py() for number in (1, 2))
                yield Record(index, place, orjson.loads(row))
            at = end
            if at == len(wanted):
                return
