"""A prompt: an instruction, a template of the user's turns, and demonstrations; as a file, and on a tokenizer.

On a tokenizer it is part of the chat template, so that whatever renders a conversation (evaluation, chat, serving, an
exported model) asks with it. Demonstrations that hang on the question are put in front by `Renderer` first.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, meta
from jinja2 import TemplateError as JinjaError
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEnvironment

from whet.errors import RecipeError, RowError, RunError, TemplateError, did_you_mean
from whet.models.in_context.choose import Chooser, Demonstration, Embed
from whet.recipe import InContextPart
from whet.rows import Example, Message
from whet.tokens.plain import PLAIN_TEMPLATE
from whet.tokens.template import Renderer

FILE = "prompt.json"
LIKE = "like"
"""Key of a content-free turn that holds the question it stands for, by which demonstrations are chosen. Templates read
`role` and `content` alone."""
_MARK = "\ue000"
_SYSTEM = ("system", "developer")


@dataclass(frozen=True)
class Prompt:
    """`part` is the recipe's method. `shown` are the demonstrations of all questions or, where these hang on the
    question, the pool they are chosen from. `instruction_in` is the turn that the instruction is in."""

    part: InContextPart
    shown: list[Demonstration] = field(default_factory=list)
    instruction_in: str = "system"

    @property
    def by_question(self) -> bool:
        return self.part.shots > 0 and self.part.choose in ("nearest", "mmr")

    @property
    def around(self) -> tuple[str, str] | None:
        """What the template puts before and after a user's words; None where it does more than that."""
        return around(self.part.template)

    def asked(self, example: Example) -> Example:
        """The row as it is to be rendered: its last question filled into a template that uses other columns."""
        if self.around is not None:
            return example
        at = max((n for n, turn in enumerate(example.messages) if turn["role"] == "user"), default=None)
        if at is None:
            raise RowError("no question here", where=example.place, do="a row needs a prompt and an answer")
        turn = example.messages[at]
        text = filled(self.part.template, {**example.extra, "prompt": str(turn["content"])}, example.place)
        return replace(
            example, messages=[*example.messages[:at], {**turn, "content": text}, *example.messages[at + 1 :]]
        )

    def write(self, folder: Path) -> None:
        """prompt.json in `folder`."""
        tree = {
            "instruction_in": self.instruction_in,
            **self.part.model_dump(),
            "demonstrations": [{"place": shown.place, "messages": list(shown.turns)} for shown in self.shown],
        }
        (folder / FILE).write_text(json.dumps(tree, indent=1, ensure_ascii=False), encoding="utf-8")


def read_prompt(folder: Path) -> Prompt:
    """The prompt of a run's folder `prompt/`. Raises RunError where its file is broken."""
    try:
        tree = json.loads((folder / FILE).read_text(encoding="utf-8"))
        shown = [Demonstration(tuple(one["messages"]), one["place"]) for one in tree.pop("demonstrations")]
        place = tree.pop("instruction_in")
        return Prompt(InContextPart(**tree), shown, place)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise RunError(f"cannot be read: {error}", where=str(folder / FILE), do="make the prompt again") from None


def with_prompt(tokenizer: Any, prompt: Prompt, embed: Embed | None = None) -> Any:
    """A copy of the tokenizer that asks with the prompt. `embed` is needed where demonstrations are chosen by it."""
    tokenizer = copy.deepcopy(tokenizer)
    shown = [] if prompt.by_question else [turn for one in prompt.shown for turn in one.turns]
    before, after = prompt.around or ("", "")
    own = tokenizer.chat_template or PLAIN_TEMPLATE
    tokenizer.chat_template = _baked(own, prompt.part.instruction, prompt.instruction_in, before, after, shown)
    if prompt.by_question:
        tokenizer.whet_before = _inserting(Chooser(prompt.shown, prompt.part, embed))
    return tokenizer


def instruction_place(tokenizer: Any) -> str:
    """`system` where the chat template writes a system prompt, `user` where it refuses or leaves it out."""
    turns: list[Message] = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
    try:
        Renderer(copy.deepcopy(tokenizer)).conversation([*turns, {"role": "assistant", "content": "c"}])
    except TemplateError:
        return "user"
    return "system"


def _inserting(chooser: Chooser) -> Callable[[list[Message]], list[Message]]:
    def before(messages: list[Message]) -> list[Message]:
        first = next((turn for turn in messages if turn.get("role") == "user"), None)
        if first is None or not isinstance(first.get("content"), str):
            return messages
        shown = [turn for one in chooser(str(first.get(LIKE, first["content"]))) for turn in one.turns]
        system = sum(1 for turn in messages[:1] if turn["role"] in _SYSTEM)
        return [*messages[:system], *shown, *messages[system:]]

    return before


def _baked(own: str, instruction: str, place: str, before: str, after: str, shown: Sequence[Message]) -> str:
    """The template behind a preamble that changes `messages`. Written in the little Jinja that llama.cpp knows, too."""
    if not (instruction or before or after or shown):
        return own
    turns = ", ".join(f'{{"role": {_literal(t["role"])}, "content": {_literal(t["content"])}}}' for t in shown)
    system, first = (instruction, "") if place == "system" else ("", instruction and instruction + "\n\n")
    return (
        f"{{%- set whet = namespace(system={_literal(system)}, first={_literal(first)}, turns=[]) -%}}\n"
        f"{{%- set whet_shown = [{turns}] -%}}\n"
        "{%- for message in whet_shown + messages -%}\n"
        f"{{%- if loop.index0 == {len(shown)} and message['role'] == 'system' -%}}\n"
        "{%- set whet.system = (whet.system + '\\n\\n' if whet.system else '') + message['content'] -%}\n"
        "{%- elif message['role'] == 'user' and message['content'] is string -%}\n"
        f"{{%- set content = whet.first + {_literal(before)} + message['content'] + {_literal(after)} -%}}\n"
        "{%- set whet.turns = whet.turns + [{'role': 'user', 'content': content}] -%}\n"
        "{%- set whet.first = '' -%}\n"
        "{%- else -%}\n"
        "{%- set whet.turns = whet.turns + [message] -%}\n"
        "{%- endif -%}\n"
        "{%- endfor -%}\n"
        "{%- set messages = ([{'role': 'system', 'content': whet.system}] if whet.system else []) + whet.turns -%}\n"
    ) + own


def _literal(text: str) -> str:
    """A Jinja string; braces are escaped, so that nothing looks for a block in it."""
    return json.dumps(text, ensure_ascii=False).replace("{", "\\u007b").replace("}", "\\u007d")


# Templates of fields -------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _compiled(template: str) -> Any:
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    try:
        return environment.from_string(template)
    except JinjaError as error:
        raise RecipeError(f"not Jinja: {error}", where="template", do="fields are {{ prompt }}, {{ column }}") from None


def fields_of(template: str) -> set[str]:
    """The columns that a template uses. Raises RecipeError for what is no Jinja."""
    _compiled(template)
    return set(meta.find_undeclared_variables(SandboxedEnvironment().parse(template)))


def filled(template: str, columns: dict[str, Any], place: str) -> str:
    """The template with a row's columns. Raises RowError for a column that is not there, and names those that are."""
    missing = sorted(fields_of(template) - set(columns))
    if missing:
        raise RowError(
            f"the template wants `{missing[0]}`, which this row does not have.{did_you_mean(missing[0], columns)}",
            where=place,
            do=f"there are: {', '.join(sorted(columns))}",
        )
    try:
        return str(_compiled(template).render(**columns))
    except (JinjaError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        raise RowError(f"the template cannot be filled: {error}", where=place) from None


def around(template: str) -> tuple[str, str] | None:
    """(before, after) of a template that puts texts around `prompt` and does nothing else, else None."""
    if fields_of(template) != {"prompt"}:
        return None
    before, mark, after = filled(template, {"prompt": _MARK}, "template").partition(_MARK)
    tried = ("", " a b\n", "0", "<|x|> {{ 'y' }}")
    plain = mark and all(filled(template, {"prompt": text}, "") == before + text + after for text in tried)
    return (before, after) if plain and _MARK not in after else None
