"""A chat template in Ollama's language, where it can be said there, and the Modelfile around it.

Ollama renders Go templates over `.Messages`. A Jinja template is not translated but probed: conversations of words that
are made up show what stands before and after each role's text. That is all of a template that does nothing else; the
gate then renders conversations with both, the Go template by a reader of the few actions that are written here.

https://github.com/ollama/ollama/blob/main/docs/template.md and modelfile.md
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from jinja2 import TemplateError as JinjaError

from whet.errors import TemplateError
from whet.models.export.gate import CHATS
from whet.rows import Message

_ASKED, _ANSWERED, _AGAIN, _TOLD = "alphaquestion", "betaanswer", "gammaquestion", "deltasystem"
_ACTION = re.compile(r"\{\{ (.*?) \}\}", re.DOTALL)
_QUOTED = re.compile(r'^(FROM|TEMPLATE|PARAMETER stop) ("""(.*?)"""|"([^"\n]*)"|\S+)$', re.MULTILINE | re.DOTALL)

_MORE: list[list[Message]] = [
    [
        {"role": "system", "content": "You are terse.\nAnswer in 'French'."},
        {"role": "user", "content": '{{ .Content }} {% if x %} 100% & "quoted" <b>'},
        {"role": "assistant", "content": "Oui."},
        {"role": "user", "content": "Et\n\n\tpuis?"},
        {"role": "assistant", "content": "Non; \\n est autre chose."},
        {"role": "user", "content": "Fin"},
    ],
]


@dataclass(frozen=True)
class Modelfile:
    """`template` is in Go's language, `stops` are tokens as text."""

    template: str
    stops: list[str]
    notes: list[str] = field(default_factory=list)

    def written(self, model: str) -> str:
        """The file's text, for a GGUF file beside it."""
        stops = "".join(f"PARAMETER stop {_quoted(stop)}\n" for stop in self.stops)
        return f'FROM ./{model}\nTEMPLATE """{self.template}"""\n{stops}'

    def render(self, messages: list[Message]) -> str:
        """A conversation as Ollama would send it."""
        nodes, _ = _parse(_ACTION.split(self.template), 0)
        system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
        return _render(nodes, {"System": system, "Messages": messages})


def modelfile_of(tokenizer: Any, stop_ids: frozenset[int], add_bos: bool) -> Modelfile:
    """For a tokenizer with a chat template; `add_bos`: Ollama puts the beginning token before the prompt by itself.

    Raises TemplateError where a template does more than put text around each turn.
    """
    write = _writer(tokenizer, add_bos)
    one = write([_said("user", _ASKED)], False)
    two = write([_said("user", _ASKED), _said("assistant", _ANSWERED), _said("user", _AGAIN)], False)
    asked = write([_said("user", _ASKED)], True)
    first, user_end = _cut(one, _ASKED)
    begin, rest = _cut(two, _ASKED)
    between, rest = _cut(rest, _ANSWERED)
    after, last = _cut(rest, _AGAIN)
    if begin != first or last != user_end or not between.startswith(user_end) or not asked.startswith(one):
        raise _no_words("what it writes around a turn depends on the turns beside it")
    _, assistant_end = _cut(write([_said("user", _ASKED), _said("assistant", _ANSWERED)], False), _ANSWERED)
    user = after.removeprefix(assistant_end)
    if not user or user == after or not first.endswith(user):
        user = _shared_end(first, after)  # it ends the last turn otherwise than those before
    pieces = {
        "user": (user, user_end),
        "assistant": (between.removeprefix(user_end), after.removesuffix(user)),
    }
    notes = []
    try:
        told = write([_said("system", _TOLD), _said("user", _ASKED)], False)
    except TemplateError:
        notes.append("the chat template takes no system message: Ollama will leave one out")
    else:
        system, rest = _cut(told, _TOLD)
        between, _ = _cut(rest, _ASKED)
        if not between.endswith(user):
            raise _no_words("it writes a system message into the user's turn")
        pieces["system"] = (system, between.removesuffix(user))
    template = _go(first.removesuffix(user), pieces, asked.removeprefix(one))
    stops = tokenizer.convert_ids_to_tokens(sorted(stop_ids))
    modelfile = Modelfile(
        template, stops, [*notes, "Ollama's template has no tools; llama.cpp reads the whole template"]
    )
    for chat, text in rendered_for_ollama(tokenizer, add_bos):
        if modelfile.render(chat) != text:
            raise _no_words("what it writes depends on more than the role of a turn")
    return modelfile


def rendered_for_ollama(tokenizer: Any, add_bos: bool) -> list[tuple[list[Message], str]]:
    """Conversations that the chat template accepts, with the prompt that Ollama must send for each."""
    write, rows = _writer(tokenizer, add_bos), []
    for chat in [*CHATS, *_MORE, *(chat[1:] for chat in _MORE)]:
        try:
            rows.append((chat, write(chat, True)))
        except TemplateError:
            continue
    return rows


def read_modelfile(text: str) -> Modelfile:
    """What a Modelfile says, as Ollama reads quotes."""
    lines = [(match[1], match[3] if match[3] is not None else match[4] or match[2]) for match in _QUOTED.finditer(text)]
    template = next((value for key, value in lines if key == "TEMPLATE"), "")
    return Modelfile(template, [value for key, value in lines if key == "PARAMETER stop"])


def _go(lead: str, pieces: dict[str, tuple[str, str]], prompt: str) -> str:
    """The Go template: text around each turn by its role; `lead` where there is no system message to begin with."""
    for text in (lead, prompt, *(text for pair in pieces.values() for text in pair)):
        if "{{" in text or '"""' in text:
            raise _no_words(f"it writes {text!r}, which has a meaning of its own there")
    turns = ""
    for number, (role, (before, behind)) in enumerate(pieces.items()):
        turns += f'{{{{ {"else " if number else ""}if eq .Role "{role}" }}}}{before}{{{{ .Content }}}}{behind}'
    if lead and "system" in pieces:
        lead = f"{{{{ if not .System }}}}{lead}{{{{ end }}}}"
    return f"{lead}{{{{ range .Messages }}}}{turns}{{{{ end }}}}{{{{ end }}}}{prompt}"


def _parse(parts: list[str], at: int) -> tuple[list[Any], int]:
    """Nodes of a template that was split at its actions, from `at` to the `end` or `else` that closes them. A node is a
    text, a name, or (name, [(condition, nodes), ...])."""
    nodes: list[Any] = []
    while at < len(parts):
        if at % 2 == 0:
            nodes.append(("text", parts[at]))
        elif parts[at] == "end" or parts[at].startswith("else"):
            return nodes, at
        elif parts[at].startswith(("range ", "if ")):
            branches, action = [], parts[at]
            while action != "end":
                inside, at = _parse(parts, at + 1)
                branches.append((action.removeprefix("else ").removeprefix("if "), inside))
                action = parts[at]
            nodes.append(("branches", branches))
        else:
            nodes.append(("value", parts[at].removeprefix(".")))
        at += 1
    return nodes, at


def _render(nodes: list[Any], scope: dict[str, Any]) -> str:
    text = ""
    for kind, value in nodes:
        if kind == "text":
            text += value
        elif kind == "value":
            text += scope[value]
        elif value[0][0] == "range .Messages":
            for message in scope["Messages"]:
                text += _render(value[0][1], {"Role": message["role"], "Content": message["content"]})
        else:
            text += next((_render(inside, scope) for condition, inside in value if _holds(condition, scope)), "")
    return text


def _holds(condition: str, scope: dict[str, Any]) -> bool:
    if condition == "not .System":
        return not scope["System"]
    return bool(condition == f'eq .Role "{scope.get("Role")}"')


def _writer(tokenizer: Any, add_bos: bool) -> Any:
    """The chat template as a function, without the beginning token where Ollama puts it."""

    def write(messages: list[Message], prompt: bool) -> str:
        try:
            text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        except (JinjaError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise TemplateError(f"the chat template refuses a conversation: {error}") from error
        return text.removeprefix(tokenizer.bos_token) if add_bos else text

    return write


def _said(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _cut(text: str, word: str) -> tuple[str, str]:
    """What stands before and after a word that is there once."""
    parts = text.split(word)
    if len(parts) != 2:
        raise _no_words("it writes a turn more than once, or not at all")
    return parts[0], parts[1]


def _shared_end(one: str, other: str) -> str:
    size = 0
    while size < min(len(one), len(other)) and one[-1 - size] == other[-1 - size]:
        size += 1
    return one[len(one) - size :]


def _quoted(text: str) -> str:
    return f'"""{text}"""' if '"' in text or "\n" in text else f'"{text}"'


def _no_words(why: str) -> TemplateError:
    return TemplateError(
        f"this chat template cannot be said in Ollama's language: {why}",
        where="--to ollama",
        do="export it --to gguf: llama.cpp reads the chat template itself",
    )
