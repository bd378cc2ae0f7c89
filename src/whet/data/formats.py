"""File formats: each reader turns the bytes of one file into (place, object) pairs and knows nothing of columns.

A place is `file:7` where a row has a line of its own (JSON lines, text), else `file:row 7`; both count from 1.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import IO, Any

from whet.errors import RowError, did_you_mean

Record = tuple[str, dict[str, Any]]
"""A row's place and its columns, as the file has them."""


def format_of(path: Path) -> str:
    """The ending that decides the reader, in lower case and without `.gz`: ".jsonl", or "" for none."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def records(path: Path, label: str) -> list[Record]:
    """Every row of one file, as `stream` gives them."""
    return list(stream(path, label))


def stream(path: Path, label: str) -> Iterator[Record]:
    """Row by row through one file. `label` is the path as the user wrote it; it begins each place.

    Raises RowError for a file that is unreadable, empty, of no known format, or broken.
    """
    ending = format_of(path)
    if ending not in READERS:
        raise RowError(
            f"whet does not read {ending or 'files without an ending'}.{did_you_mean(ending, READERS)}",
            where=label,
            do=f"convert it to one of {' '.join(READERS)}; all but .parquet may be compressed (.gz)",
        )
    try:
        if path.stat().st_size == 0:
            raise RowError("the file is empty", where=label)
        with path.open("rb") as raw:
            file: Any = gzip.GzipFile(fileobj=raw) if path.name.lower().endswith(".gz") else raw
            found = False
            for record in READERS[ending](file, label):
                found = True
                yield record
    except (OSError, EOFError, zlib.error) as error:
        raise RowError(f"cannot be read: {error}", where=label) from error
    if not found:
        raise RowError("no rows in this file", where=label)


def _json_lines(file: IO[bytes], label: str) -> Iterator[Record]:
    """One object a line; blank lines are passed over. Lines end at "\\n" alone, as JSON may hold any other break."""
    offset = 0
    for number, raw in enumerate(file, 1):
        line = _decode(raw, label, offset, number)
        offset += len(raw)
        if not line.strip():
            continue
        row = parse_json(line.rstrip(), label, number)
        if not isinstance(row, dict):
            do = "a file that is one JSON list ends in .json" if line.lstrip().startswith("[") else None
            raise RowError(f"{kind_of_value(row)}, but a row is an object", where=f"{label}:{number}", do=do)
        yield f"{label}:{number}", row


def _json(file: IO[bytes], label: str) -> Iterator[Record]:
    """A list of rows, rows keyed by their id, or an object that holds one list of rows.

    Many files called .json hold JSON lines; those are unmistakable (a whole object on the first line and more to
    come) and read as such.
    """
    text = _decode(file.read(), label)
    try:
        tree = parse_json(text, label)
    except RowError as error:
        cause = error.__cause__
        if not (isinstance(cause, json.JSONDecodeError) and cause.msg == "Extra data"):
            raise
        first = text[: cause.pos].strip()
        if "\n" in first or not first.startswith("{") or cause.lineno == 1:
            raise
        yield from _json_lines(io.BytesIO(text.encode()), label)
        return
    for number, row in enumerate(_rows_in(tree, label), 1):
        where = f"{label}:row {number}"
        if not isinstance(row, dict):
            raise RowError(f"{kind_of_value(row)}, but a row is an object", where=where)
        yield where, row


def _rows_in(tree: Any, label: str) -> list[Any]:
    if isinstance(tree, list):
        return tree
    if not isinstance(tree, dict):
        raise RowError(f"the file holds {kind_of_value(tree)}, not rows", where=label)
    if tree and all(isinstance(row, dict) for row in tree.values()):
        return [{"id": key, **row} for key, row in tree.items()]
    lists = {key: rows for key, rows in tree.items() if isinstance(rows, list) and rows and isinstance(rows[0], dict)}
    if len(lists) == 1:
        return next(iter(lists.values()))
    found = f"{len(lists)} lists of rows ({_names(lists)})" if lists else f"no list of rows (keys: {_names(tree)})"
    raise RowError(
        f"one object with {found}", where=label, do="write a list of objects, or one object a line into a .jsonl file"
    )


def _csv(file: IO[bytes], label: str) -> Iterator[Record]:
    """A header, then a row a record, comma-separated. An empty cell is a column that the row does not have."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the default, 128 KiB, is less than one long document
    # strict: otherwise a quote that is never closed swallows the rest of the file without a word.
    reader = csv.reader(io.StringIO(_decode(file.read(), label), newline=""), strict=True)
    number, header = 0, None
    try:
        for cells in reader:
            if not cells:
                continue
            if header is None:
                header = _header(cells, label)
                continue
            number += 1
            if len(cells) != len(header):
                raise RowError(
                    f"{len(cells)} fields where the header has {len(header)} (at line {reader.line_num})",
                    where=f"{label}:row {number}",
                    do='put a field that holds a comma, quote or line end between "..."',
                )
            yield f"{label}:row {number}", {name: cell or None for name, cell in zip(header, cells, strict=True)}
    except csv.Error as error:
        raise RowError(f"broken CSV at line {reader.line_num}: {error}", where=f"{label}:row {number + 1}") from error


def _header(cells: list[str], label: str) -> list[str]:
    names = [cell.strip() or f"column {number}" for number, cell in enumerate(cells, 1)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RowError(f"the header names {_names(twice)} twice", where=label)
    other = next((mark for mark in ";\t|" if len(names) == 1 and mark in names[0]), None)
    if other:
        raise RowError(f"fields are separated by {other!r}", where=label, do="save it with commas")
    return names


def _parquet(file: IO[bytes], label: str) -> Iterator[Record]:
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        for batch in parquet.ParquetFile(file).iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield f"{label}:row {number}", without_nulls(row)
    except (pyarrow.ArrowException, OSError) as error:
        raise RowError(f"broken Parquet: {error}", where=label) from error


def without_nulls(value: Any) -> Any:
    """Arrow gives each object every key that any row has, null where it had none; those keys are dropped again."""
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [without_nulls(inner) for inner in value]
    return value


def _text(file: IO[bytes], label: str) -> Iterator[Record]:
    """Paragraphs: blocks of lines with blank lines between. A file without blank lines gives a row a line."""
    lines = _decode(file.read(), label).replace("\r\n", "\n").split("\n")
    by_blank = groupby(enumerate(lines, 1), key=lambda numbered: bool(numbered[1].strip()))
    blocks = [list(block) for filled, block in by_blank if filled]
    if len(blocks) == 1:
        blocks = [[numbered] for numbered in blocks[0]]
    for block in blocks:
        yield f"{label}:{block[0][0]}", {"text": "\n".join(line for _, line in block)}


READERS: dict[str, Callable[[IO[bytes], str], Iterator[Record]]] = {
    ".jsonl": _json_lines, ".json": _json, ".csv": _csv, ".parquet": _parquet, ".txt": _text,
}  # fmt: skip


def parse_json(text: str, label: str, line: int = 1) -> Any:
    """The value that `text` spells, or a RowError with line and column. `line` is where the text begins in its file.

    NaN and Infinity are numbers here, as in Python's own writer.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        where = f"{label}:{line + error.lineno - 1}"
        raise RowError(f"broken JSON at column {error.colno}: {error.msg}", where=where) from error
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits; brackets nested too deep
        raise RowError(f"JSON that cannot be read: {error}", where=f"{label}:{line}") from error
    if "\\ud" in text or "\\uD" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = ascii(error.object[error.start])
            raise RowError(
                f"half of a character ({half}, a lone surrogate)",
                where=f"{label}:{line}",
                do="the text was cut inside an emoji or rare sign: repair or remove it",
            ) from error
    return value


def _decode(raw: bytes, label: str, offset: int = 0, line: int = 1) -> str:
    """UTF-8, with or without a byte order mark. `offset` and `line` say where `raw` begins in its file."""
    if offset == 0 and raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise RowError("UTF-16, not UTF-8", where=label, do="save it as UTF-8")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        number = line + raw.count(b"\n", 0, error.start)
        raise RowError(
            f"not UTF-8: byte {offset + error.start} is 0x{raw[error.start]:02X}",
            where=f"{label}:{number}",
            do="convert it, e.g. `iconv -f latin1 -t utf-8`",
        ) from error
    return text.removeprefix("\ufeff") if offset == 0 else text


def kind_of_value(value: Any) -> str:
    """What a value is, in a reader's words: "a list", "a number", ..."""
    words = {type(None): "null", bool: "true or false", str: "text", list: "a list", dict: "an object"}
    return words.get(type(value), "a number" if isinstance(value, (int, float)) else f"a {type(value).__name__}")


def _names(names: Any) -> str:
    shown = [f"`{name}`" for name in list(names)[:6]]
    return ", ".join(shown) + (", ..." if len(names) > 6 else "")
