"""What people wrote in the rows, and nothing else: texts for a tokenizer to be trained on or measured with."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

from whet.data.columns import Row, listed
from whet.data.formats import Record, stream
from whet.data.shapes import KINDS, recognise
from whet.data.sources import files_of, path_and_count, tables
from whet.errors import RowError
from whet.rows import Example, Message


def texts(paths: Sequence[str], columns: Sequence[str] = (), seed: int = 0) -> Iterator[tuple[str, str]]:
    """(place, text) of every row of files, folders and `hub:NAME`, one row at a time in memory.

    A row of a known shape gives what its turns say (or its `text`). `columns` takes these instead, from rows that have
    any of them; `a.b` goes into an object or a list of them, and all texts below a column are taken. Texts of one row
    come one after the other. `path#500` samples rows by `seed`: the same rows that a recipe with that path trains on.

    Raises RowError for a row that has no text to give, and for all that the readers refuse.
    """
    for path in paths:
        for place, row in _sampled(path, seed):
            yield from ((place, text) for text in texts_of(row, place, columns))


def texts_of(row: Row, place: str, columns: Sequence[str] = ()) -> list[str]:
    """The texts of one row, those that are blank left out. Raises RowError as `texts` does."""
    filled = {name: value for name, value in row.items() if value is not None}
    if columns:
        if not any(name.split(".")[0] in filled for name in columns):
            raise RowError(
                f"none of the columns {', '.join(columns)} here: it has {listed(filled)}",
                where=place,
                do="add one of these to --columns",
            )
        found = [text for name in columns for text in _below(filled, name.split("."))]
    else:
        found = _of_shape(filled, place)
    return [text for text in found if text.strip()]


def _of_shape(row: Row, place: str) -> list[str]:
    refusal: RowError | None = None
    for objective in dict.fromkeys({kind: objective for objective, kind in KINDS.items()}.values()):
        try:
            return _said(recognise(row, objective, place).example(row, place))
        except RowError as error:
            refusal = refusal or error
    assert refusal is not None
    names = [name for name, value in row.items() if isinstance(value, (str, list, dict))]
    do = f"name those that hold text: --columns {','.join(names)}" if names else refusal.do
    raise RowError(refusal.what, where=refusal.where, do=do)


def _said(example: Example) -> list[str]:
    turns: list[Message] = [*example.messages, *example.prompt, *example.chosen, *example.rejected]
    return [example.text, *(text for turn in turns for text in _of_turn(turn))]


def _of_turn(turn: Message) -> Iterator[str]:
    yield from _strings(turn.get("content"))
    for call in turn.get("tool_calls") or []:
        called = call.get("function", call)
        arguments = called.get("arguments", "")
        yield str(called.get("name", ""))
        yield arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _below(value: Any, path: list[str]) -> Iterator[str]:
    """All texts under a dotted path, through lists on the way."""
    if isinstance(value, list):
        for item in value:
            yield from _below(item, path)
    elif not path:
        yield from _strings(value)
    elif isinstance(value, dict):
        yield from _below(value.get(path[0]), path[1:])


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def _sampled(path: str, seed: int) -> Iterator[Record]:
    """The rows of a path, or of `path#500` those that `read` draws. To know how many there are the files are read
    twice, rather than held."""
    path, count = path_and_count(path)
    if count is None:
        yield from _rows(path)
        return
    total = sum(1 for _ in _rows(path))
    drawn = set(random.Random(seed).sample(range(total), min(count, total)))
    yield from (record for number, record in enumerate(_rows(path)) if number in drawn)


def _rows(path: str) -> Iterator[Record]:
    if path.startswith("hub:") or "://" in path:
        yield from (record for _, records in tables(path, "train") for record in records)
        return
    try:
        files = files_of(path)
    except OSError as error:
        raise RowError(f"cannot be read: {error.strerror}", where=path) from error
    for label, file in files:
        yield from stream(file, label)
