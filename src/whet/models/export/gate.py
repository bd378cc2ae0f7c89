"""The gate: what was written is opened again from its files alone and must answer as the run does.

A check either adds a line to the gate's table or raises, with what was expected and what was found. The cheap ones come
first, so that the message names the cause (a template that changed) and not its effect (other logits).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from whet.errors import RunError, TemplateError
from whet.models.generate import room, sample
from whet.rows import Message
from whet.tokens.template import Renderer

GREEDY = 32  # tokens

TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1, "float16": 0.02, "q8_0": 0.3}
"""By how much logits may differ, as a share of the largest logit of the prompt. In float32 only the order of sums
differs. The others bound what rounding every weight does to small models; that each weight was rounded to its nearest
and no further is checked weight by weight."""

CHATS: list[list[Message]] = [
    [{"role": "user", "content": "What is the capital of France?"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name 3 rivers, please."}],
    [
        {"role": "user", "content": "Zürich or Genève? 12,345 people asked."},
        {"role": "assistant", "content": "Zürich;\nit's larger."},
        {"role": "user", "content": "```py\nif x >= 10:\n    print('naïve')\n```\n\n  日本語 🙂?"},
    ],
]
TEXTS = [
    "The cat sat on the mat, and then they'll have gone home.",
    'Line one\n\n\tline two:  two blanks, 3.14159 and {"a": [1, 2]}; Ünïcödé, 東京, 🙂.',
]

_SHOWN = 120  # characters of what a message quotes
_LONGEST = 64  # tokens of a prompt whose logits are compared


@dataclass(frozen=True)
class Check:
    """A line of the gate's table: what was compared, and how it came out."""

    name: str
    figure: str


@dataclass
class Gate:
    """The checks that held so far. `where` is the run that the export must be equal to."""

    where: str
    checks: list[Check] = field(default_factory=list)

    def equal(self, name: str, expected: Any, found: Any, figure: str) -> None:
        """Raise RunError unless both are equal."""
        if expected != found:
            raise self.differs(name, *_first_difference(expected, found))
        self.checks.append(Check(name, figure))

    def at_most(self, name: str, found: float, allowed: float, of: str, place: str = "") -> None:
        """Raise RunError for a difference that is larger than `allowed`, or not a number."""
        if not found <= allowed:
            at = f" at {place}" if place else ""
            raise self.differs(name + at, f"a difference of at most {allowed:.0e} {of}", f"{found:.1e}")
        self.checks.append(Check(name, f"{found:.1e} {of}, {allowed:.0e} allowed"))

    def differs(self, name: str, expected: object, found: object) -> RunError:
        """The error for the first difference."""
        return RunError(
            f"the export is not the run: {name}: expected {expected}, found {found}",
            where=self.where,
            do="nothing was left behind; export again, and where it fails again report it with this message",
        )


@dataclass(frozen=True)
class Reference:
    """What the run itself does. `chats` are rendered with the prompt for an answer; those that its template refuses are
    not among them. `logits` [L, V] float32 are of a prompt, cut to 64 tokens, with its 32 greedy tokens."""

    template: str
    stop_ids: frozenset[int]
    vocabulary: int
    chats: list[str]
    chat_ids: list[list[int]]
    text_ids: list[list[int]]
    answers: list[list[int]]
    logits: list[torch.Tensor]

    @property
    def prompts(self) -> list[list[int]]:
        """The prompts that were answered, as token ids."""
        rows = [*self.chat_ids, *self.text_ids]
        return [ids[: len(logits) - GREEDY] for ids, logits in zip(rows, self.logits, strict=True)]


def look(model: Any, tokenizer: Any) -> Reference:
    """Ask a run what its export must answer alike. A tokenizer without a chat template gets whet's plain one."""
    renderer = Renderer(tokenizer)
    chats, chat_ids = rendered(renderer)
    text_ids = [list(tokenizer(text).input_ids) for text in TEXTS]
    prompts = [ids[: _fitting(model, ids)] for ids in (*chat_ids, *text_ids)]
    answers = greedy(model, tokenizer, prompts)
    logits = [logits_of(model, prompt + answer) for prompt, answer in zip(prompts, answers, strict=True)]
    rows = int(logits[0].shape[-1])
    return Reference(tokenizer.chat_template, renderer.stop_ids, rows, chats, chat_ids, text_ids, answers, logits)


def rendered(renderer: Renderer) -> tuple[list[str], list[list[int]]]:
    """The gate's conversations that the template accepts, as text and as the ids that serving sends."""
    texts, rows = [], []
    for chat in CHATS:
        try:
            rows.append(renderer.prompt(chat))
        except TemplateError:
            continue
        texts.append(renderer.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))
    return texts, rows


def greedy(model: Any, tokenizer: Any, prompts: list[list[int]]) -> list[list[int]]:
    """The 32 likeliest next tokens of each prompt, whatever would stop an answer."""
    return [answer.ids for answer in sample(model, tokenizer, prompts, stop_ids=(), max_new_tokens=GREEDY)]


def logits_of(model: Any, ids: list[int]) -> torch.Tensor:
    """[L, V] float32."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids], device=model.device)).logits[0].float().cpu()  # type: ignore[no-any-return]


def check_tokenizer(gate: Gate, expected: Reference, tokenizer: Any) -> None:
    """Template, rendered conversations and prompt tokens of a Hugging Face tokenizer."""
    gate.equal("chat template", expected.template, tokenizer.chat_template, f"{len(expected.template):,} characters")
    chats, chat_ids = rendered(Renderer(tokenizer))
    gate.equal("rendered chats", expected.chats, chats, f"{len(chats)} equal")
    _check_ids(gate, expected, chat_ids, [list(tokenizer(text).input_ids) for text in TEXTS])


def check_encoding(gate: Gate, expected: Reference, encode: Callable[[str, bool], list[int]]) -> None:
    """Prompt tokens by a function (text, whether special tokens are added) -> ids."""
    chat_ids = [encode(chat, False) for chat in expected.chats]
    _check_ids(gate, expected, chat_ids, [encode(text, True) for text in TEXTS])


def _check_ids(gate: Gate, expected: Reference, chat_ids: list[list[int]], text_ids: list[list[int]]) -> None:
    for kind, wanted, found in (("chats", expected.chat_ids, chat_ids), ("texts", expected.text_ids, text_ids)):
        for one, other in zip(wanted, found, strict=True):
            if one != other:
                at = _parting(one, other)
                raise gate.differs(f"tokens of {kind}, from the {at + 1}. on", one[at : at + 8], other[at : at + 8])
        gate.equal(f"tokens of {kind}", wanted, found, f"{sum(map(len, wanted))} equal")


def check_stops(gate: Gate, expected: Iterable[int], found: Iterable[int], tokenizer: Any) -> None:
    """The tokens that end an answer."""
    named = [sorted(f"{i} {tokenizer.convert_ids_to_tokens(i)}" for i in ids) for ids in (expected, found)]
    gate.equal("stop tokens", named[0], named[1], ", ".join(name.split(" ", 1)[1] for name in named[0]) or "none")


def check_vocabulary(gate: Gate, expected: Reference, embeddings: int, tokens: int) -> None:
    """The rows of the embeddings: as many as the run's, and one for every token."""
    gate.equal("vocabulary", expected.vocabulary, embeddings, f"{embeddings:,} rows")
    if tokens > embeddings:
        raise gate.differs("vocabulary", f"an embedding for each of {tokens:,} tokens", f"{embeddings:,} rows")


def check_answers(gate: Gate, expected: Reference, model: Any, tokenizer: Any, precision: str) -> None:
    """Logits within the precision's tolerance, then greedy tokens."""
    worst, place = 0.0, ""
    rows = zip(expected.prompts, expected.answers, expected.logits, strict=True)
    for number, (prompt, answer, logits) in enumerate(rows, start=1):
        found = logits_of(model, prompt + answer)
        if found.shape != logits.shape:
            raise gate.differs("logits", f"[L, V] = {list(logits.shape)}", list(found.shape))
        difference = float((found - logits).abs().max() / logits.abs().max())
        if not difference <= worst:
            worst, place = difference, f"prompt {number}"
    gate.at_most("logits", worst, TOLERANCE[precision], "of the largest", place)
    check_greedy(gate, expected, greedy(model, tokenizer, expected.prompts), precision)


def check_greedy(gate: Gate, expected: Reference, answers: list[list[int]], precision: str) -> None:
    """In float32 greedy tokens must be the same, but where the run itself finds two tokens equally likely: the gap
    between them is then no larger than what logits may differ by. In other precisions the table says where answers
    part."""
    same, note = 0, ""
    for number, (wanted, found) in enumerate(zip(expected.answers, answers, strict=True)):
        if wanted == found:
            same += 1
            continue
        parted = next(i for i in range(GREEDY) if wanted[i] != found[i])
        row = expected.logits[number][len(expected.prompts[number]) + parted - 1]
        gap = float((row[wanted[parted]] - row[found[parted]]) / expected.logits[number].abs().max())
        if precision == "float32" and gap > 2 * TOLERANCE[precision]:
            raise gate.differs(f"greedy token {parted + 1} of prompt {number + 1}", wanted[parted], found[parted])
        note = note or f"; prompt {number + 1} parts at token {parted + 1}, where two were {gap:.0e} apart"
    gate.checks.append(Check("greedy tokens", f"{same} of {len(answers)} prompts x {GREEDY} equal{note}"))


def _fitting(model: Any, ids: list[int]) -> int:
    """How many of a prompt's tokens are answered: 64, or what leaves room for the answer."""
    longest = room(model, ids[:1], 1_000_000) + 1
    return max(1, min(len(ids), _LONGEST, longest - GREEDY))


def _parting(one: Sequence[Any], other: Sequence[Any]) -> int:
    """The first place where two differ."""
    places = (place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1])
    return next(places, min(len(one), len(other)))


def _first_difference(expected: Any, found: Any) -> tuple[str, str]:
    """Both as a message quotes them; of texts, from a little before where they part."""
    if isinstance(expected, str) and isinstance(found, str):
        shared = _parting(expected, found)
        begin = max(0, shared - 20)
        expected, found = expected[begin : begin + _SHOWN], found[begin : begin + _SHOWN]
    return repr(expected)[:_SHOWN], repr(found)[:_SHOWN]
