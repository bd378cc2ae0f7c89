"""Which texts a row holds, whatever its shape, and rows with other texts in their places."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

Row = dict[str, Any]
Path = tuple[str | int, ...]
"""Where a text is: ("messages", 2, "content")."""

COLUMNS = (
    "text", "system", "instruction", "input", "prompt", "messages", "conversations",
    "completion", "output", "chosen", "rejected",
)  # fmt: skip
"""whet's own names of columns that hold text or turns, in the order in which people read them."""

ANSWERS = ("completion", "output", "chosen")
_NOT_TEXT = {
    "id", "source", "url", "licence", "license", "split", "label", "group", "weight", "language", "made", "kind",
}  # fmt: skip


def text_columns(row: Row, columns: tuple[str, ...] = ()) -> list[str]:
    """The columns of this row that hold text: those given, else whet's own, else every column that is a string, else
    those that are lists."""
    if columns:
        return [name for name in columns if name in row]
    own = [name for name in COLUMNS if isinstance(row.get(name), (str, list))]
    others = {name: value for name, value in row.items() if name.lower() not in _NOT_TEXT}
    strings = [name for name, value in others.items() if isinstance(value, str)]
    return own or strings or [name for name, value in others.items() if isinstance(value, list)]


def texts_of(row: Row, columns: tuple[str, ...] = ()) -> list[tuple[Path, str]]:
    """Every text of a row with its path: strings, and the contents of turns (parts of type text, too)."""
    return [found for name in text_columns(row, columns) for found in _within((name,), row[name])]


def _within(path: Path, value: Any) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list):
        for number, item in enumerate(value):
            if isinstance(item, dict):
                for key in ("content", "value", "text"):
                    yield from _within((*path, number, key), item.get(key))
            elif isinstance(item, str):
                yield (*path, number), item


def joined(row: Row, columns: tuple[str, ...] = ()) -> str:
    """All texts of a row, a blank line between: what makes two rows alike."""
    return "\n\n".join(text for _, text in texts_of(row, columns))


def with_texts(row: Row, changes: dict[Path, str]) -> Row:
    """The row with other texts at these paths; the row itself where there are none. What did not change is shared."""
    if not changes:
        return row
    below: dict[str | int, dict[Path, str]] = {}
    for path, text in changes.items():
        below.setdefault(path[0], {})[path[1:]] = text
    return {name: _changed(value, below[name]) if name in below else value for name, value in row.items()}


def _changed(value: Any, changes: dict[Path, str]) -> Any:
    if () in changes:
        return changes[()]
    below: dict[str | int, dict[Path, str]] = {}
    for path, text in changes.items():
        below.setdefault(path[0], {})[path[1:]] = text
    if isinstance(value, list):
        return [_changed(item, below[number]) if number in below else item for number, item in enumerate(value)]
    return {key: _changed(item, below[key]) if key in below else item for key, item in value.items()}


def map_texts(row: Row, function: Callable[[str], str], columns: tuple[str, ...] = ()) -> Row:
    """The row with `function` of each text; the row itself, the same object, where none changes."""
    found = ((path, text, function(text)) for path, text in texts_of(row, columns))
    return with_texts(row, {path: new for path, text, new in found if new != text})


def prompt_and_answer(
    row: Row, prompt_columns: tuple[str, ...] = (), answer_columns: tuple[str, ...] = ()
) -> tuple[str, str] | None:
    """What is asked and what is answered; None for a row without both (running text, turns without an answer).

    Of a conversation, the answer is the last assistant's turn, and all before it is the prompt. The columns that ask
    and answer are those given, else whet's own names.
    """
    if answer_columns:
        answers = [name for name in answer_columns if name in row]
        return (_text(row, prompt_columns), _text(row, answers)) if answers else None
    turns = row.get("messages") or row.get("conversations")
    if isinstance(turns, list) and turns and isinstance(turns[-1], dict):
        if turns[-1].get("role", turns[-1].get("from")) not in ("assistant", "gpt", "model"):
            return None
        texts = ["\n".join(text for _, text in _within((), [turn])) for turn in turns]
        return "\n\n".join(texts[:-1]), texts[-1]
    answer = next((name for name in ANSWERS if name in row), None)
    if answer is None:
        return None
    asked = [name for name in ("system", "instruction", "prompt", "input") if name in row]
    return _text(row, asked), _text(row, [answer])


def _text(row: Row, names: Iterable[str]) -> str:
    return "\n\n".join(text for name in names for _, text in _within((name,), row.get(name)))
