"""Turns in one spelling: OpenAI's messages, ShareGPT's from/value, transcripts and plain texts -> list[Message].

A canonical message has a `role` of ROLES, a `content` that is a string ("" where a turn only calls tools), tool calls
whose arguments are objects (OpenAI sends them as JSON text; templates print objects), and no keys that are null.
"""

from __future__ import annotations

import re
from typing import Any

from whet.data.columns import is_texts
from whet.data.formats import kind_of_value, parse_json
from whet.errors import RowError, did_you_mean
from whet.rows import Message

ROLES = ("system", "developer", "user", "assistant", "tool")

_SHAREGPT = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system", "tool": "tool",
    "observation": "tool", "function_response": "tool", "function_call": "assistant",
}  # fmt: skip

_SPEAKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")


def messages(value: Any, column: str, place: str) -> list[Message]:
    """The turns in `column`: a list of messages, or the same as JSON text (as CSV and Parquet often have it).

    Raises RowError with the turn's index for whatever is not a message.
    """
    value = decoded(value, column, place)
    if not isinstance(value, list) or not value:
        found = "an empty list" if value == [] else kind_of_value(value)
        raise RowError(f"`{column}` is {found}, not a list of messages", where=place)
    return [_message(turn, f"{column}[{index}]", place) for index, turn in enumerate(value)]


def decoded(value: Any, column: str, place: str) -> Any:
    """The value that JSON text spells; any other value is itself."""
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value, place)
    except RowError as error:
        raise RowError(f"`{column}` is text that is not JSON ({error.what})", where=place) from error


def text(value: Any, column: str, place: str) -> str:
    if isinstance(value, str):
        return value
    do = None
    if is_texts(value):
        do = f"data.columns={{{column}: {column}}} joins the strings of a list by line ends"
    raise RowError(f"`{column}` is {kind_of_value(value)}, not text", where=place, do=do)


def tools(value: Any, place: str) -> list[dict[str, Any]] | None:
    """Tools as OpenAI spells them, {"type": "function", "function": {...}}; bare functions are wrapped. [] is None."""
    value = decoded(value, "tools", place) if value else None
    if not value:
        return None
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise RowError("`tools` is not a list of objects", where=place)
    return [tool if "function" in tool or "name" not in tool else _function(tool) for tool in value]


def transcript(value: str) -> list[Message] | None:
    """The turns of "\\n\\nHuman: ...\\n\\nAssistant: ..." (hh-rlhf), or None where the text does not begin so."""
    before, *pieces = _SPEAKER.split(value)
    if before or not pieces:
        return None
    roles = {"Human": "user", "Assistant": "assistant"}
    return [
        {"role": roles[name], "content": words.strip()}
        for name, words in zip(pieces[::2], pieces[1::2], strict=True)
    ]  # fmt: skip


def _message(turn: Any, name: str, place: str) -> Message:
    if not isinstance(turn, dict):
        raise RowError(f"`{name}` is {kind_of_value(turn)}, not a message", where=place)
    if "role" not in turn and "from" in turn:
        turn = _from_sharegpt(turn, name, place)
    message = {key: value for key, value in turn.items() if value is not None}
    role = message.get("role")
    if role == "function":  # OpenAI's older word
        message["role"] = role = "tool"
    if role not in ROLES:
        found = "no role" if role is None else f"unknown role {role!r}.{did_you_mean(str(role), ROLES)}"
        raise RowError(f"`{name}` has {found}", where=place, do=f"roles are {', '.join(ROLES)}")
    if "function_call" in message:  # likewise
        message["tool_calls"] = [message.pop("function_call")]
    if "tool_calls" in message:
        _set_tool_calls(message, name, place)
    content = message.get("content")
    if not isinstance(content, str):
        message["content"] = _content(content, "tool_calls" in message, name, place)
    if "weight" in message:
        if message["weight"] not in (0, 1):
            raise RowError(f"`{name}` has weight {message['weight']!r}; a turn's weight is 0 or 1", where=place)
        message["weight"] = int(message["weight"])
    return message


def _from_sharegpt(turn: dict[str, Any], name: str, place: str) -> dict[str, Any]:
    """{"from", "value"} as {"role", "content"}; a function_call's value is a call, or several, as JSON text."""
    speaker, value = turn["from"], turn.get("value")
    if not isinstance(speaker, str) or speaker not in _SHAREGPT:
        raise RowError(
            f"`{name}` is from an unknown speaker {speaker!r}.{did_you_mean(str(speaker), _SHAREGPT)}",
            where=place,
            do=f"speakers are {', '.join(_SHAREGPT)}",
        )
    message = {key: inner for key, inner in turn.items() if key not in ("from", "value")}
    message["role"] = _SHAREGPT[speaker]
    if speaker == "function_call":
        calls = decoded(value, f"{name}.value", place)
        message["tool_calls"] = calls if isinstance(calls, list) else [calls]
    else:
        message["content"] = value
    return message


def _content(content: Any, calls_tools: bool, name: str, place: str) -> str:
    """The text of a turn: parts are put together, nothing is "" where tools are called."""
    if content is None and calls_tools:
        return ""
    if isinstance(content, list):
        for part in content:
            if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
                kind = part.get("type") if isinstance(part, dict) else kind_of_value(part)
                raise RowError(f"`{name}` has a part of type {kind!r}; whet reads text alone", where=place)
        return "".join(part["text"] for part in content)
    found = "no content" if content is None else f"content that is {kind_of_value(content)}"
    raise RowError(f"`{name}` has {found}", where=place, do="content is text, or null beside tool_calls")


def _set_tool_calls(message: Message, name: str, place: str) -> None:
    """Bring `tool_calls` into one spelling, or take an empty list away."""
    calls = decoded(message.pop("tool_calls"), f"{name}.tool_calls", place)
    if not calls:
        return
    if message["role"] != "assistant":
        raise RowError(f"`{name}` has tool_calls, but only an assistant calls tools", where=place)
    if not isinstance(calls, list):
        raise RowError(f"`{name}.tool_calls` is {kind_of_value(calls)}, not a list", where=place)
    message["tool_calls"] = [_tool_call(call, f"{name}.tool_calls[{index}]", place) for index, call in enumerate(calls)]


def _tool_call(call: Any, name: str, place: str) -> dict[str, Any]:
    if isinstance(call, dict) and "function" not in call and "name" in call:
        call = _function(call)
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowError(f"`{name}` names no function", where=place, do='{"function": {"name": ..., "arguments": {...}}}')
    arguments = decoded(function.get("arguments") or {}, f"{name}.function.arguments", place)
    if not isinstance(arguments, dict):
        raise RowError(f"`{name}.function.arguments` is {kind_of_value(arguments)}, not an object", where=place)
    return {"type": "function", **call, "function": {**function, "arguments": arguments}}


def _function(bare: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": bare}
