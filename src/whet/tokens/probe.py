"""What a chat template does, found by rendering conversations that are made up for the purpose.

Two conversations that differ in one place alone show what the template makes of that place: what follows it is what
they both end with, and where they do not differ at all it is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from whet.errors import TemplateError
from whet.rows import Message
from whet.tokens.turns import Endings, Write, shared_start

ROLES = ("system", "developer", "user", "assistant", "tool")
_USER: Message = {"role": "user", "content": "question"}


def find_endings(write: Write, tokens: Mapping[str, bool], end_token: str | None) -> Endings:
    """How a template ends an assistant's turn. `tokens`: every added token, and whether it is special; the tokenizer's
    `end_token` stops in any case.

    The stop is the last token that follows a turn both when nothing comes after and when something does (Phi-3 writes
    <|end|>, and <|endoftext|> only at the very end); where nothing is common to these, as in gpt-oss, it is the one at
    the very end. A turn of tool calls may have another stop; there only special tokens count, for </tool_call> ends a
    call and not the turn.
    """
    answers, calls = [_said("assistant", text) for text in ("one", "two")], [_call(1), _call(2)]
    special = [token for token, is_special in tokens.items() if is_special]
    stops = {end_token} if end_token else set()
    tails: dict[str, int] = {}
    for turns, following, candidates in ((answers, _USER, list(tokens)), (calls, _said("tool", "one"), special)):
        try:
            last = _common_end(*(write([_USER, turn], False).text for turn in turns))
            inner = _common_end(*(write([_USER, turn, following], False).text for turn in turns))
        except TemplateError:  # a template may know no tools, or want other conversations than these
            continue
        stop, through = _last_token(shared_start(last, inner), candidates) or _last_token(last, candidates) or ("", 0)
        if stop:
            stops.add(stop)
            tails[last] = through
    return Endings(sorted(stops, key=lambda token: (-len(token), token)), tails)


def find_left_out(writer: Callable[[list[dict[str, Any]] | None], Write]) -> set[str]:
    """What a template leaves out without a word: of the roles, `tools`, `tool_calls` alone and beside content.

    Phi-3 drops what tools answer, Llama 3 the calls, DeepSeek-R1 calls beside content, models that see drop content
    that is plain text. `writer` gives the template as a function, for some tools. What a template refuses is not left
    out, for then it says so; but `developer`, the newer name of `system`, counts as left out in either case.
    """

    def differ(name: str, number: int) -> str:
        """A conversation in which the thing of this name is one of two."""
        text, answer = ("one", "two")[number], _said("assistant", "answer")
        if name == "tools":
            tool = {"type": "function", "function": {"name": text, "description": text, "parameters": {}}}
            return writer([tool])([_USER, answer], False).text
        conversations = {
            "assistant": [_USER, _said("assistant", text)],
            "user": [_said("user", text), answer],
            "tool": [_USER, _call(0), _said("tool", text), answer],
            "tool_calls": [_USER, _call(number)],
            "tool_calls beside content": [_USER, {**_call(number), "content": "answer"}],
        }
        return write(conversations.get(name, [_said(name, text), _USER, answer]), False).text

    write, left_out = writer(None), set()
    for name in (*ROLES, "tools", "tool_calls", "tool_calls beside content"):
        try:
            if differ(name, 0) == differ(name, 1):
                left_out.add(name)
        except TemplateError:
            if name == "developer":
                left_out.add(name)
    return left_out


def _said(role: str, content: str) -> Message:
    ids = {"tool_call_id": "abcdefghi", "name": "look_up"} if role == "tool" else {}  # Mistral wants nine letters
    return {"role": role, "content": content, **ids}


def _call(number: int) -> Message:
    function = {"name": "look_up", "arguments": {"number": number}}
    call = {"id": "abcdefghi", "type": "function", "function": function}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


def _common_end(one: str, other: str) -> str:
    """What both end with; nothing if they are equal, for then the template left out what differs."""
    return "" if one == other else shared_start(one[::-1], other[::-1])[::-1]


def _last_token(text: str, tokens: Sequence[str]) -> tuple[str, int] | None:
    """The token that comes last in the text, and where it ends."""
    at, length, token = max(((text.rfind(token), len(token), token) for token in tokens), default=(-1, 0, ""))
    return (token, at + length) if at >= 0 else None
