"""The file's names and whet's: renaming as the recipe says, and a proposal where it says nothing.

`columns: {prompt: question, completion: answer}` reads `question` as `prompt`. `{prompt: "context+question"}` joins
several texts by a blank line. A mapped column that is a list of strings is joined by line ends. A column that another
is renamed over is not read.
"""

from __future__ import annotations

import re
from typing import Any

from whet.data.formats import Record, kind_of_value
from whet.errors import RowError, did_you_mean

Row = dict[str, Any]


def renamed(records: list[Record], columns: dict[str, str], label: str) -> list[Record]:
    """The rows under whet's names. Raises RowError where a mapped column is in no row of the file."""
    if not columns:
        return records
    known = dict.fromkeys(name for _, row in records for name in row)
    parts = {name: _parts(source, known, label) for name, source in columns.items()}
    taken = {part for several in parts.values() for part in several}
    return [
        (place, {key: value for key, value in row.items() if key not in taken}
         | {name: _joined(row, several, place) for name, several in parts.items()})
        for place, row in records
    ]  # fmt: skip


def _parts(source: str, known: dict[str, None], label: str) -> list[str]:
    """The file's columns that a mapping's value names: one, or several with "+" between."""
    parts = [source] if source in known else [part.strip() for part in source.split("+")]
    for part in parts:
        if part not in known:
            raise RowError(
                f"no column `{part}` in this file.{did_you_mean(part, known)}",
                where=label,
                do=f"data.columns maps whet's name to the file's; the file has {listed(known)}",
            )
    return parts


def _joined(row: Row, parts: list[str], place: str) -> Any:
    values = [row[part] for part in parts if row.get(part) is not None]
    values = ["\n".join(value) if is_texts(value) else value for value in values]
    if len(parts) == 1 or not values:
        return values[0] if values else None
    for part, value in zip(parts, values, strict=False):
        if not isinstance(value, str):
            raise RowError(f"`{part}` is {kind_of_value(value)}; only texts can be joined", where=place)
    return "\n\n".join(value for value in values if value.strip())


def is_texts(value: Any) -> bool:
    """Whether a value is a list of strings, and not an empty one."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


# What people call the columns that whet knows, most telling first. A proposal is never acted upon, only printed.
_CALLED = {
    "prompt": ("question", "query", "problem", "input", "source", "dialogue", "article", "document", "passage", "user"),
    "completion": ("answer", "response", "output", "reply", "solution", "summary", "target", "completion", "assistant"),
    "context": ("context", "passage", "background"),
    "instruction": ("definition", "task"),
    "chosen": ("chosen", "preferred", "accepted", "better", "winner"),
    "rejected": ("rejected", "dispreferred", "worse", "loser"),
    "text": ("text", "content", "document", "body", "sentence", "article"),
}


def proposal(row: Row, kind: str) -> str | None:
    """The `'data.columns={...}'`, quoted for a shell, that would make a row of `kind` out of this one, or None where no
    name is telling.

    `kind` is a shape of whet.rows.Example. What only the user can know is left as three dots.
    """
    turns = _column_of_turns(row)
    if kind == "conversation":
        mapping = {"messages": turns} if turns else _answered_or_text(row)
    elif kind == "preference":
        pair = {"chosen": _called(row, "chosen"), "rejected": _called(row, "rejected")}
        mapping = {name: source for name, source in _prompt(row).items() if source} | pair
    elif kind == "label":
        mapping = _answered(row) | {"label": "label" if "label" in row else None}
    else:
        mapping = {"prompt": turns} if turns else _prompt(row)
    changes = {name: source for name, source in mapping.items() if name != source or is_texts(row[name])}
    if not any(changes.values()):
        return None
    return "'data.columns={" + ", ".join(f"{name}: {_quoted(source)}" for name, source in changes.items()) + "}'"


def _column_of_turns(row: Row) -> str | None:
    """The column that holds a list of turns, whatever it is called."""
    for name, value in row.items():
        first = value[0] if isinstance(value, list) and value else None
        if isinstance(first, dict) and (first.keys() >= {"role", "content"} or first.keys() >= {"from", "value"}):
            return name
    return None


def _answered_or_text(row: Row) -> dict[str, str | None]:
    """Prompt and completion; or a text, where there is at most that one column to choose from."""
    answered, body = _answered(row), _called(row, "text")
    if None in answered.values() and body and not {*answered.values()} - {None, body}:
        return {"text": body}
    return answered


def _answered(row: Row) -> dict[str, str | None]:
    prompt = _prompt(row)
    name = "output" if "instruction" in prompt else "completion"
    given = next((column for column in ("completion", "output") if column in row), None)
    return prompt | ({given: given} if given else {name: _called(row, "completion")})


def _prompt(row: Row) -> dict[str, str | None]:
    context = _called(row, "context")
    if "prompt" in row:
        return {"prompt": "prompt"}
    if "instruction" in row and context and "input" not in row:
        return {"instruction": "instruction", "input": context}
    if "instruction" in row:
        return {"instruction": "instruction"}
    task = _called(row, "instruction")
    if "input" in row and task:
        return {"instruction": task}
    question = _called(row, "prompt")
    return {"prompt": f"{context}+{question}" if question and context and question != context else question}


def _called(row: Row, what: str) -> str | None:
    """The first column of texts that bears a usual name of `what`: the whole name before a word in it."""
    texts = [column for column, value in row.items() if isinstance(value, str) or is_texts(value)]
    for wanted in _CALLED[what]:
        for column in texts:
            if column.lower().rstrip("s") == wanted.rstrip("s"):
                return column
    for wanted in _CALLED[what]:
        for column in texts:
            if wanted in [word.rstrip("s0123456789") for word in re.split(r"[\W_]+", column.lower())]:
                return column
    return None


def _quoted(source: str | None) -> str:
    """A column's name as YAML reads it back inside braces."""
    if source is None:
        return "..."
    plain = re.fullmatch(r"[A-Za-z_][\w+.-]*( [\w+.-]+)*", source)
    return source if plain else '"' + source.replace("\\", "\\\\").replace('"', '\\"') + '"'


def listed(names: Any) -> str:
    """`a`, `b` and so on, at most a dozen."""
    shown = [f"`{name}`" for name in list(names)[:12]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
