"""Which shape a row has, and the `Example` it makes.

The columns decide, together with the objective: a row with `output`, `chosen` and `rejected` is a conversation to
"sft" and a preference to "dpo". A shape is there when all its columns are filled; a null counts as absent. One shape
must be there: none is an error that proposes a mapping, two are an error that names both. Whatever column the shape
does not use goes to `Example.extra`, so a `prompt` beside complete `messages` is an extra, as is everything beside
`prompt` where the answer is sampled and graded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from whet.data.columns import Row, listed, proposal
from whet.data.formats import kind_of_value
from whet.data.messages import decoded, messages, text, tools
from whet.data.pairs import checked, shared_prompt, with_prompt
from whet.errors import RecipeError, RowError, did_you_mean
from whet.rows import Example, Message

KINDS = {
    "sft": "conversation",
    "dpo": "preference", "orpo": "preference", "simpo": "preference", "cpo": "preference", "reward": "preference",
    "preference": "preference",
    "kto": "label", "label": "label",
    "grpo": "prompt", "rloo": "prompt", "reinforce++": "prompt", "ppo": "prompt", "prompt": "prompt",
}  # fmt: skip
"""Objective -> the kind of row it wants. "conversation" takes texts as well."""

Fields = dict[str, Any]

HEAVIEST = 1_000_000
"""Of a row's weight; more would drown all other rows, and overflow before long."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One set of columns that makes a row. `optional` ones are used where they are there."""

    columns: tuple[str, ...]
    fields: Callable[[Row, tuple[str, ...], str], Fields]
    optional: tuple[str, ...] = ("system", "tools")

    @property
    def name(self) -> str:
        return " + ".join(self.columns)

    def example(self, row: Row, place: str, weight: float = 1.0) -> Example:
        """The Example of a row without nulls. `weight` multiplies the row's own.

        Raises RowError for a value that is not what its column should hold.
        """
        used = {*self.columns, *self.optional, "id", "weight", "group"}
        fields: Fields = {"tools": tools(row["tools"], place)} if "tools" in row and "tools" in self.optional else {}
        return Example(
            place=place,
            **fields | self.fields(row, self.columns, place),
            id=str(row["id"]) if "id" in row else None,
            weight=_weight(row.get("weight", 1.0), place) * weight,
            group=str(row["group"]) if "group" in row else None,
            extra={name: value for name, value in row.items() if name not in used},
        )


def recognise(row: Row, objective: str, place: str) -> Shape:
    """The shape of a row without nulls. Raises RowError where there is none or two, RecipeError for the objective."""
    if objective not in KINDS:
        raise RecipeError(f"unknown objective {objective!r}.{did_you_mean(objective, KINDS)}", where="objective.kind")
    kind = KINDS[objective]
    found = _complete(tuple(row), kind)
    if not found:
        raise _unrecognised(row, objective, place)
    if len(found) > 1:
        aside = next(column for column in found[1].columns if column not in found[0].columns)
        raise RowError(
            f"two shapes in one row: `{found[0].name}` and `{found[1].name}`",
            where=place,
            do=f"keep one, or put a column aside under another name: 'data.columns={{unused: {aside}}}'",
        )
    return found[0]


@lru_cache(maxsize=1024)
def _complete(columns: tuple[str, ...], kind: str) -> list[Shape]:
    """The shapes whose columns are all there, without those that are part of another one found."""
    found = [shape for shape in SHAPES[kind] if set(shape.columns) <= set(columns)]
    return [shape for shape in found if not any(set(shape.columns) < set(other.columns) for other in found)]


def _unrecognised(row: Row, objective: str, place: str) -> RowError:
    """The error for a row of no shape: the objective that it fits, or else what it has and the nearest way to one."""
    kind = KINDS[objective]
    mapping = proposal(row, kind)
    for fits, other in {"sft": "conversation", "dpo": "preference", "kto": "label"}.items():
        complete = _complete(tuple(row), other) if other != kind else []
        if complete:
            do = f"set objective.kind={fits}" + (f", or map its columns: {mapping}" if mapping else "")
            what = f"a row of shape `{complete[0].name}` does not fit objective {objective}"
            return RowError(what, where=place, do=do)
    what = f"no shape recognised: has {listed(row)}" if row else "no shape recognised: the row is empty"
    if row.keys() == {"role", "content"}:
        do = 'this is one turn; a row is {"messages": [turn, turn, ...]}'
    elif mapping:
        do = f"map its columns: {mapping}"
    else:
        plain = [shape for shape in SHAPES[kind] if not {"instruction", "output"} & set(shape.columns)]
        example = next(shape for shape in plain if "prompt" in shape.columns).columns
        do = "map its columns: 'data.columns={" + ", ".join(f"{column}: ..." for column in example) + "}'"
        do += f"; whet reads {', '.join(f'`{shape.name}`' for shape in plain)}"
    return RowError(what, where=place, do=do)


def _weight(value: Any, place: str) -> float:
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = math.nan
    if not 0 <= weight <= HEAVIEST:
        raise RowError(f"`weight` is {value!r}, not a number from 0 to {HEAVIEST:,}", where=place)
    return weight


def _of_messages(row: Row, columns: tuple[str, ...], place: str) -> Fields:
    turns = messages(row[columns[0]], columns[0], place)
    if not any(turn["role"] == "assistant" for turn in turns):
        raise RowError(f"`{columns[0]}` has no assistant turn: nothing to learn", where=place)
    return {"shape": "conversation", "messages": _with_system(turns, row, place)}


def _of_text(row: Row, columns: tuple[str, ...], place: str) -> Fields:
    return {"shape": "text", "text": text(row["text"], "text", place)}


def _of_completion(row: Row, columns: tuple[str, ...], place: str) -> Fields:
    if isinstance(row.get("label"), bool):
        raise RowError(
            "`label` says which completions are good, and sft would learn the bad ones too",
            where=place,
            do="set objective.kind=kto, or put it aside: 'data.columns={unused: label}'",
        )
    prompt = [turn | {"weight": 0} if turn["role"] == "assistant" else turn for turn in _prompt(row, columns, place)]
    return {"shape": "conversation", "messages": _with_system(prompt, row, place) + _completion(row, columns, place)}


def _of_pair(row: Row, columns: tuple[str, ...], place: str) -> Fields:
    if columns[0] == "chosen":
        prompt, chosen, rejected = shared_prompt(row, place)
    else:
        prompt = _prompt(row, columns, place)
        chosen, rejected = with_prompt(prompt, row, place)
    prompt = _with_system(prompt, row, place)
    return {"shape": "preference", "prompt": prompt, "chosen": chosen, "rejected": rejected}


def _of_openai_pair(row: Row, columns: tuple[str, ...], place: str) -> Fields:
    """https://platform.openai.com/docs/guides/direct-preference-optimization"""
    given = decoded(row["input"], "input", place)
    if not isinstance(given, dict):
        raise RowError(f"`input` is {kind_of_value(given)}, not an object with `messages`", where=place)
    chosen, rejected = (checked(messages(row[column], column, place), column, place) for column in columns[1:])
    return {
        "shape": "preference",
        "prompt": messages(given.get("messages"), "input.messages", place),
        "chosen": chosen,
        "rejected": rejected,
        "tools": tools(given.get("tools"), place),
    }


def _of_label(row: Row, columns: tuple[str, ...], place: str) -> Fields:
    words = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    label = words.get(str(row["label"]).lower())
    if label is None:
        raise RowError(f"`label` is {row['label']!r}, neither true nor false", where=place)
    prompt = _with_system(_prompt(row, columns, place), row, place)
    return {"shape": "label", "prompt": prompt, "chosen": _completion(row, columns, place), "label": label}


def _of_prompt(row: Row, columns: tuple[str, ...], place: str) -> Fields:
    prompt = _prompt(row, columns, place)
    if prompt[-1]["role"] == "assistant":
        raise RowError(f"`{columns[0]}` ends with an assistant turn, so there is nothing to answer", where=place)
    return {"shape": "prompt", "prompt": _with_system(prompt, row, place)}


def _prompt(row: Row, columns: tuple[str, ...], place: str) -> list[Message]:
    """The turns of the first of `columns`; an instruction is followed by a blank line and its input (Alpaca)."""
    value = row[columns[0]]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return messages(value, columns[0], place)
    content = text(value, columns[0], place)
    given = text(row.get("input", ""), "input", place) if columns[0] == "instruction" else ""
    if given.strip():
        content = f"{content}\n\n{given}" if content.strip() else given
    return [{"role": "user", "content": content}]


def _completion(row: Row, columns: tuple[str, ...], place: str) -> list[Message]:
    value = row[columns[1]]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return checked(messages(value, columns[1], place), columns[1], place)
    return [{"role": "assistant", "content": text(value, columns[1], place)}]


def _with_system(turns: list[Message], row: Row, place: str) -> list[Message]:
    """`turns` behind the `system` column's words, where the row has any."""
    words = text(row.get("system", ""), "system", place)
    if not words.strip():
        return turns
    if turns[0]["role"] in ("system", "developer"):
        raise RowError("two system turns: the `system` column and the first turn", where=place)
    return [{"role": "system", "content": words}, *turns]


def _prompted(*rest: str, fields: Callable[[Row, tuple[str, ...], str], Fields]) -> tuple[Shape, Shape]:
    """The shape of `prompt` and the rest, and the same with `instruction` (and `input`) in its stead."""
    return (
        Shape(("prompt", *rest), fields),
        Shape(("instruction", *rest), fields, ("input", "system", "tools")),
    )


SHAPES: dict[str, list[Shape]] = {
    "conversation": [
        Shape(("messages",), _of_messages),
        Shape(("conversations",), _of_messages),
        *_prompted("completion", fields=_of_completion),
        *_prompted("output", fields=_of_completion),
        Shape(("text",), _of_text, ()),
    ],
    "preference": [
        *_prompted("chosen", "rejected", fields=_of_pair),
        Shape(("chosen", "rejected"), _of_pair),
        Shape(("input", "preferred_output", "non_preferred_output"), _of_openai_pair, ()),
    ],
    "label": [*_prompted("completion", "label", fields=_of_label), *_prompted("output", "label", fields=_of_label)],
    "prompt": [*_prompted(fields=_of_prompt)],
}
