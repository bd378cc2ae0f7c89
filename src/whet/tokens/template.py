"""Messages to ids and targets, by the model's own chat template: the one that serving uses.

`probe` learns what the template does, `turns` finds the characters that are learnt, `targets` their tokens; `plain` is
the template of models without one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from jinja2 import TemplateError as JinjaError
from jinja2 import TemplateSyntaxError
from transformers.utils.chat_template_utils import render_jinja_template

from whet.errors import RowError, TemplateError
from whet.rows import Message
from whet.tokens.messages import forms
from whet.tokens.plain import PLAIN_TEMPLATE
from whet.tokens.probe import find_endings, find_left_out
from whet.tokens.targets import encode, tokenise
from whet.tokens.turns import Piece, Write, Written, find_turn, join_turns, stop_end

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Tools = list[dict[str, Any]]
Conversation = tuple[list[Message], Tools | None, str]
"""Messages, the tools that they may call, and the row's place for messages to the user."""
Learn = Literal["completions", "everything"]
Result = TypeVar("Result")

_MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")
_BATCH = 512  # rows tokenised at once: enough to keep all cores busy, few enough to hold
# What a template's code can raise on a row that it was not written for.
_REFUSALS = (JinjaError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)


@dataclass(frozen=True, slots=True)
class Rendered:
    """`ids` [L] int32 and `targets` [L] bool (the token itself is learnt) of one row, and the row as text."""

    ids: np.ndarray
    targets: np.ndarray
    text: str


class Renderer:
    """Renders conversations and text for one tokenizer.

    `template` (Jinja) replaces the tokenizer's own; a tokenizer without any gets `PLAIN_TEMPLATE`. Either is set on the
    tokenizer, so that it is saved with the model and serving uses the same.

    `stop_ids`: where serving stops, the tokenizer's end token and what the template ends an assistant's turn with.
    `unlike_serving`: places of conversations so far in which a learnt turn does not begin where the prompt that serving
    would send ends; a template's doing (one that opens <think> in its prompt but not in its turns).

    Raises TemplateError for a tokenizer without offsets and for a template that is not Jinja.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, template: str | None = None):
        if not tokenizer.is_fast:
            raise TemplateError(
                f"{type(tokenizer).__name__} cannot tell which token stands for which characters",
                do="use a model with a fast tokenizer (a tokenizer.json)",
            )
        if template is not None or not tokenizer.chat_template:
            tokenizer.chat_template = template or PLAIN_TEMPLATE
        self.tokenizer = tokenizer
        self.unlike_serving: list[str] = []
        added = {token.content: token.special for token in tokenizer.added_tokens_decoder.values()}
        named = {token: special for token, special in added.items() if token.strip()}  # Gemma's have line breaks
        self._endings = find_endings(self._writer(None), named, tokenizer.eos_token)
        self.stop_ids: frozenset[int] = frozenset(tokenizer.convert_tokens_to_ids(self._endings.stops))
        self._left_out = find_left_out(self._writer)
        self._developer = "system" if "developer" in self._left_out else "developer"

    @property
    def is_plain(self) -> bool:
        """Whether the template is whet's `PLAIN_TEMPLATE`."""
        return bool(self.tokenizer.chat_template == PLAIN_TEMPLATE)

    @property
    def by_question(self) -> bool:
        """Whether what is written before a question hangs on it: a prompt run's demonstrations may."""
        return hasattr(self.tokenizer, "whet_before")

    def conversation(
        self, messages: list[Message], tools: Tools | None = None, place: str = "", learn: Learn = "completions"
    ) -> list[Rendered]:
        """The rows of one conversation: one, or several where `turns.join_turns` says so, in the order of the turns.

        `completions`: assistant turns are learnt, each through its stop token, except those of weight 0; what comes
        after the last of them is left off. A template that writes no stop token gets the tokenizer's end token.
        `everything`: every token but the first is learnt.

        Raises TemplateError with the template's own words where it refuses the row, where it leaves out a part of it,
        or where it cannot be told what is to be learnt; RowError for a conversation that is empty or no text.
        """
        return self.conversations([(messages, tools, place)], learn)[0]

    def conversations(
        self,
        conversations: Sequence[Conversation],
        learn: Learn = "completions",
        progress: Callable[[int], None] | None = None,
    ) -> list[list[Rendered]]:
        """`conversation` of many, faster. `progress` is told how many are done, now and then."""
        rendered: list[list[Rendered]] = []
        for begin in range(0, len(conversations), _BATCH):
            plans = [self._plan(*conversation, learn) for conversation in conversations[begin : begin + _BATCH]]
            rows = iter(encode(self.tokenizer, [piece for plan in plans for piece in plan]))
            rendered.extend([self._rendered(piece, *next(rows), learn) for piece in plan] for plan in plans)
            if progress is not None:
                progress(len(rendered))
        return rendered

    def text(self, text: str, place: str = "") -> Rendered:
        """Plain text with the tokenizer's own special tokens, and its end token at the end. All of it is learnt."""
        return self.texts([(text, place)])[0]

    def texts(self, texts: Sequence[tuple[str, str]]) -> list[Rendered]:
        """`text` of many (text, place)."""
        for text, place in texts:
            _check_text(text, place)
        eos = self.tokenizer.eos_token_id
        rows = []
        for begin in range(0, len(texts), _BATCH):
            batch = [text for text, _ in texts[begin : begin + _BATCH]]
            encoded = self.tokenizer(batch, add_special_tokens=True, return_attention_mask=False, verbose=False)
            for text, ids in zip(batch, encoded["input_ids"], strict=True):
                if eos is not None and ids[-1:] != [eos]:
                    ids = [*ids, eos]
                rows.append(Rendered(np.array(ids, dtype=np.int32), np.ones(len(ids), dtype=bool), text))
        return rows

    def prompt(
        self, messages: list[Message], tools: Tools | None = None, place: str = "", whole: bool = False
    ) -> list[int]:
        """What serving sends to have `messages` answered: ids with the generation prompt. `whole`: TemplateError where
        the template leaves out a part of them, as in training."""

        def write(form: list[Message]) -> str:
            if whole:
                self._check_nothing_left_out(form, tools)
            return self._writer(tools)(form, True).text

        text = self._accepted(messages, place, write)
        _check_text(text, place)
        ids: list[int] = tokenise(self.tokenizer, [text])[0].ids.tolist()
        return ids

    def _plan(self, messages: list[Message], tools: Tools | None, place: str, learn: Learn) -> list[Piece]:
        """The rows of a conversation as text."""
        if not messages:
            raise RowError("a conversation without messages", where=place or None)
        learnt = [i for i, message in enumerate(messages) if _is_learnt(message)]

        def pieces(form: list[Message]) -> list[Piece]:
            self._check_nothing_left_out(form, tools)
            write = self._writer(tools)
            if learn == "everything":
                return [self._whole(write, form)]
            turns = [find_turn(write, form, index, self._endings) for index in learnt]
            if not all(turn.as_served for turn in turns):
                self.unlike_serving.append(place)
            return join_turns(turns) or [Piece(write(form, False).text, [])]

        plan = self._accepted(messages, place, pieces)
        for piece in plan:
            _check_text(piece.text, place)
            if piece.add_stop and self.tokenizer.eos_token_id is None:
                raise TemplateError(
                    "neither the chat template nor the tokenizer has a token that ends an answer: a model trained on "
                    "this would never stop",
                    where=place or None,
                    do="set the tokenizer's eos_token",
                )
        return plan

    def _whole(self, write: Write, messages: list[Message]) -> Piece:
        text = write(messages, False).text
        stopped = messages[-1]["role"] != "assistant" or stop_end(text, 0, len(text), self._endings) is not None
        return Piece(text, [(0, len(text))], add_stop=not stopped)

    def _rendered(self, piece: Piece, ids: np.ndarray, targets: np.ndarray, learn: Learn) -> Rendered:
        if learn == "everything":
            targets[:1] = False
        return Rendered(ids, targets, piece.text + (self.tokenizer.eos_token if piece.add_stop else ""))

    def _check_nothing_left_out(self, messages: list[Message], tools: Tools | None) -> None:
        used = {message["role"] for message in messages if message.get("content")} | ({"tools"} if tools else set())
        for message in messages:
            if message.get("tool_calls"):
                used.add("tool_calls beside content" if message["content"] else "tool_calls")
        lost = sorted(used & self._left_out)
        if lost:
            raise TemplateError(
                f"the chat template leaves out what this row has: {', '.join(lost)}",
                do="give another template, or take it out of the data",
            )

    def _accepted(self, messages: list[Message], place: str, use: Callable[[list[Message]], Result]) -> Result:
        """`use` of the first form of the messages that the template accepts, else the first refusal, placed."""
        refusal: TemplateError | None = None
        for form in forms(messages, self._developer):
            try:
                return use(form)
            except TemplateError as error:
                refusal = refusal or error
        assert refusal is not None
        raise TemplateError(refusal.what, where=place or None, do=refusal.do) from refusal.__cause__

    def _writer(self, tools: Tools | None) -> Write:
        """The template as a function. transformers compiles a template once and then keeps it."""
        special = self.tokenizer.special_tokens_map
        try:
            template = self.tokenizer.get_chat_template(None, tools=tools or None)
            render_jinja_template(conversations=[], chat_template=template)
        except TemplateSyntaxError as error:
            raise TemplateError(
                f"the chat template is not Jinja: line {error.lineno}: {error.message}", do="mend chat_template.jinja"
            ) from error
        except ValueError as error:  # several templates, none of them the default
            raise TemplateError(str(error)) from error
        marked = _MARKER.search(template) is not None

        # A prompt run's demonstrations that hang on the question (whet.models.in_context).
        before: Callable[[list[Message]], list[Message]] = getattr(self.tokenizer, "whet_before", list)

        def write(messages: list[Message], prompt: bool) -> Written:
            messages = before(messages)
            try:
                (text,), marks = render_jinja_template(
                    conversations=[messages],
                    tools=tools or None,
                    chat_template=template,
                    add_generation_prompt=prompt,
                    return_assistant_tokens_mask=marked,
                    **special,
                )
            except _REFUSALS as error:
                words = str(error) if isinstance(error, JinjaError) else f"{type(error).__name__}: {error}"
                raise TemplateError(
                    f"the chat template refuses this row: {words}", do="change the row, or give another template"
                ) from error
            return Written(text, marks[0] if marked else None)

        return write


def _is_learnt(message: Message) -> bool:
    return message.get("role") == "assistant" and message.get("weight") != 0


def _check_text(text: str, place: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RowError(
            f"{text[error.start]!r} is half a character (a lone surrogate), which no tokenizer can read",
            where=place or None,
            do="mend the row's encoding, or remove the character",
        ) from None
