"""Messages in the form that chat templates expect."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from whet.rows import Message


def forms(messages: list[Message], developer: str) -> Iterator[list[Message]]:
    """The messages with the arguments of tool calls as objects, then, if there are calls, as JSON text.

    Data in OpenAI's form has text. Most templates write an object, and would quote a text once more; a few
    (DeepSeek-V3) take text only and refuse objects. `developer` is the role that stands for it in the template.
    """
    yield [_plain(message, developer, _as_object) for message in messages]
    if any(message.get("tool_calls") for message in messages):
        yield [_plain(message, developer, _as_text) for message in messages]


def _plain(message: Message, developer: str, form: Callable[[Any], Any]) -> Message:
    """A message without `weight` and without keys of value None, which many templates print; calls get a content."""
    plain = {key: value for key, value in message.items() if value is not None and key != "weight"}
    if plain.get("role") == "developer":
        plain["role"] = developer
    if plain.get("tool_calls"):
        plain.setdefault("content", "")
        plain["tool_calls"] = [_with_arguments(call, form) for call in plain["tool_calls"]]
    return plain


def _with_arguments(call: dict[str, Any], form: Callable[[Any], Any]) -> dict[str, Any]:
    if "function" in call:
        return {**call, "function": _with_arguments(call["function"], form)}
    return {**call, "arguments": form(call["arguments"])} if "arguments" in call else call


def _as_object(arguments: Any) -> Any:
    if not isinstance(arguments, str):
        return arguments
    try:
        parsed = json.loads(arguments)
    except ValueError:
        return arguments
    return parsed if isinstance(parsed, dict) else arguments


def _as_text(arguments: Any) -> Any:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
