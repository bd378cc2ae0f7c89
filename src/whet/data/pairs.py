"""Preference pairs: the prompt of `chosen` and `rejected`, and what each says after it."""

from __future__ import annotations

from typing import Any

from whet.data.columns import proposal
from whet.data.messages import messages, text, transcript
from whet.errors import RowError
from whet.rows import Message

Turns = list[Message]


def with_prompt(prompt: Turns, row: dict[str, Any], place: str) -> tuple[Turns, Turns]:
    """(chosen, rejected) after `prompt`: texts, turns, or whole conversations that begin with the prompt again."""
    sides = {column: _answer(row[column], column, place) for column in ("chosen", "rejected")}
    for column, turns in sides.items():
        if turns[0]["role"] in ("assistant", "tool"):
            continue
        if turns[: len(prompt)] != prompt:
            raise RowError(
                f"`{column}` begins with other turns than `prompt`",
                where=place,
                do="leave `prompt` out and whet takes what chosen and rejected share: data.columns={unused: prompt}",
            )
        sides[column] = turns[len(prompt) :]
    return checked(sides["chosen"], "chosen", place), checked(sides["rejected"], "rejected", place)


def shared_prompt(row: dict[str, Any], place: str) -> tuple[Turns, Turns, Turns]:
    """(prompt, chosen, rejected) of two whole conversations: the prompt is all turns that both begin with."""
    chosen, rejected = (_whole(row, column, place) for column in ("chosen", "rejected"))
    most = min(len(chosen), len(rejected)) - 1  # each side keeps a turn, also where the two are equal
    shared = next((index for index in range(most) if chosen[index] != rejected[index]), most)
    if shared == 0:
        raise RowError("`chosen` and `rejected` share no first turn", where=place, do="add a `prompt` column")
    sides = checked(chosen[shared:], "chosen", place), checked(rejected[shared:], "rejected", place)
    return chosen[:shared], *sides


def checked(turns: Turns, column: str, place: str) -> Turns:
    """`turns`, or a RowError where no assistant speaks in them."""
    if not any(turn["role"] == "assistant" for turn in turns):
        raise RowError(f"`{column}` has no assistant turn after the prompt", where=place)
    return turns


def _answer(value: Any, column: str, place: str) -> Turns:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return messages(value, column, place)
    return [{"role": "assistant", "content": text(value, column, place)}]


def _whole(row: dict[str, Any], column: str, place: str) -> Turns:
    if not isinstance(row[column], str):
        return messages(row[column], column, place)
    turns = transcript(row[column])
    if turns is None:
        mapping = proposal(row, "preference")
        add = 'add a `prompt` column, or begin both with the prompt: messages, or a text from "\\n\\nHuman: " on'
        raise RowError(
            f"`{column}` is text without a prompt", where=place, do=f"map its columns: {mapping}" if mapping else add
        )
    return turns
