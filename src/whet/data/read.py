"""The reader: what the recipe calls `data` -> Examples."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from whet.data.columns import listed, renamed
from whet.data.formats import Record
from whet.data.shapes import Shape, recognise
from whet.data.sources import path_and_count, tables
from whet.errors import RowError
from whet.recipe import DataPart
from whet.rows import Example


def read(parts: Sequence[DataPart], objective: str = "sft", seed: int = 0) -> list[Example]:
    """Every row of every part, in order, in the one spelling of whet.rows.Example.

    A part is a file (.jsonl .json .csv .parquet .txt, or .gz of all but Parquet), a folder of them (sub-folders too,
    in order of name) or `hub:NAME`. `path#500` and `limit` sample rows by `seed`, without replacement and in order;
    a part with fewer gives all it has. Places begin with the path as written. Raises RowError for the first fault,
    with its file and line.
    """
    return [example for part in parts for example in _read_part(part, objective, seed)]


def _read_part(part: DataPart, objective: str, seed: int) -> list[Example]:
    path, count = path_and_count(part.path)
    counts = [limit for limit in (count, part.limit) if limit is not None]
    files = [renamed(records, part.columns, label) for label, records in tables(path, part.split)]
    if counts:
        files = _sampled(files, min(counts), seed)
    return [example for records in files for example in _examples(records, objective, part.weight)]


def _sampled(files: list[list[Record]], count: int, seed: int) -> list[list[Record]]:
    """`count` rows drawn from all files together, each left in its file and its order."""
    total = sum(map(len, files))
    drawn = set(random.Random(seed).sample(range(total), min(count, total)))
    numbers = iter(range(total))
    return [[record for record in records if next(numbers) in drawn] for records in files]


def _examples(records: list[Record], objective: str, weight: float) -> list[Example]:
    """The examples of one file, whose rows must all be of one shape."""
    first: tuple[Shape, str] | None = None
    examples = []
    for place, columns in records:
        row = {name: value for name, value in columns.items() if value is not None}
        shape = _shape(row, objective, place, first)
        first = first or (shape, place)
        examples.append(shape.example(row, place, weight))
    return examples


def _shape(row: dict[str, Any], objective: str, place: str, first: tuple[Shape, str] | None) -> Shape:
    """The row's shape, which must be that of the file's first row (shape, place), if there was one."""
    try:
        shape = recognise(row, objective, place)
    except RowError:
        missing = [column for column in first[0].columns if column not in row] if first else []
        if first and missing:
            raise RowError(f"no {listed(missing)} here (or an empty one), unlike {first[1]}", where=place) from None
        raise
    if first and shape is not first[0]:
        raise RowError(
            f"`{shape.name}` here, but `{first[0].name}` at {first[1]}",
            where=place,
            do="keep rows of one shape in a file, and name several files under data",
        )
    return shape
