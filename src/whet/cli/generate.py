"""`whet generate`: answers of a run, or of any model, to prompts from the command line or a file."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whet.errors import ModelError, RowError
from whet.rows import Message

if TYPE_CHECKING:
    from whet.models.generate import Completion
    from whet.models.saved import Side

_AT_ONCE = 256  # prompts between two prints

Run = Annotated[str, typer.Argument(metavar="RUN", help="A run folder, a model's folder or a model's name.")]
Base = Annotated[bool, typer.Option("--base", help="Show the answer of the model before training beside it.")]
System = Annotated[str | None, typer.Option(help="A system prompt.")]
Temperature = Annotated[float, typer.Option(min=0, help="0: always the likeliest token.")]
TopP = Annotated[float, typer.Option(min=0.01, max=1, help="Draw from the likeliest tokens that make up this share.")]
TopK = Annotated[int, typer.Option(min=0, help="Draw from so many likeliest tokens. 0: from all.")]
MaxNewTokens = Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")]
Seed = Annotated[
    int, typer.Option(min=0, max=2**63 - 1, help="Of what is drawn; the same seed gives the same answers.")
]


@dataclass(frozen=True)
class Asked:
    """One prompt: its place for messages, and its turns."""

    place: str
    messages: list[Message]

    @property
    def shown(self) -> str | list[Message]:
        """As it was given: a single user turn is its text."""
        only = self.messages[0] if len(self.messages) == 1 else {}
        return str(only["content"]) if only.get("role") == "user" else self.messages


def generate(
    run: Run,
    prompts: Annotated[list[str] | None, typer.Argument(metavar="PROMPT ...", help="What to answer.")] = None,
    file: Annotated[Path | None, typer.Option(help="Prompts: a .txt with one a line, or rows with `prompt`.")] = None,
    base: Base = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Go on with the text as it is, without the chat template.")
    ] = False,
    system: System = None,
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    top_k: TopK = 0,
    max_new_tokens: MaxNewTokens = 256,
    seed: Seed = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts answered at once, at most.")] = 64,
) -> None:
    """Answer prompts, with a run or any model."""
    asked = [Asked(f"prompt {number}", _turn(text)) for number, text in enumerate(prompts or [], start=1)]
    asked += _read(file) if file else []
    if not asked:
        raise typer.BadParameter("give a prompt, or --file prompts.txt")
    if system:
        if raw:
            raise typer.BadParameter("--raw has no turns, and so no --system prompt")
        asked = [Asked(one.place, [{"role": "system", "content": system}, *one.messages]) for one in asked]
    drawing = {"temperature": temperature, "top_p": top_p, "top_k": top_k, "seed": seed}
    sides = open_for_answers(run, base)
    given = [_ids(side, asked, raw, max_new_tokens) for side in sides]
    places = [one.place for one in asked]
    line = _json_line if as_json else _block if len(asked) > 1 or base else _text
    for begin in range(0, len(asked), _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        answers = [
            _answers(
                side, ids[part], stop_ids, max_new_tokens=max_new_tokens, batch_size=batch_size, first=begin,
                places=places[part], **drawing,
            )
            for side, (ids, stop_ids) in zip(sides, given, strict=True)
        ]  # fmt: skip
        for one, completions in zip(asked[part], zip(*answers, strict=True), strict=True):
            print(line(one, sides, completions), flush=True)


def open_for_answers(run: str, base: bool) -> list[Side]:
    """The base, where asked for, and the run, on the GPU where there is one. What is told of their files goes to
    standard error."""
    import torch

    from whet.models.saved import open_sides

    sides, notes = open_sides(run, base=base, device="cuda" if torch.cuda.is_available() else "cpu")
    for note in notes:
        print(note, file=sys.stderr)
    return sides


def printable(text: str) -> str:
    """Text without the control characters that would steer a terminal; a model may have learnt them from anywhere."""
    return "".join(letter for letter in text if unicodedata.category(letter) != "Cc" or letter in "\n\t")


def _turn(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


def _read(file: Path) -> list[Asked]:
    """The prompts of a file: the lines of a .txt; else rows with `prompt` or `instruction`, or `messages` up to the
    last answer."""
    if file.suffix == ".txt":
        return list(_read_lines(file))
    from whet.data.read import read
    from whet.recipe import DataPart

    part = DataPart(path=str(file))
    try:
        return [Asked(example.place, example.prompt) for example in read([part], "prompt")]
    except RowError as error:
        try:
            examples = read([part], "sft")
        except RowError:
            raise error from None
    if any(example.shape != "conversation" for example in examples):
        raise RowError("rows of text have no prompt", where=str(file), do="name the column `prompt`")
    return [Asked(example.place, _before_answer(example.messages)) for example in examples]


def _read_lines(file: Path) -> Iterator[Asked]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RowError(f"cannot be read: {error}", where=str(file), do="give a text file in UTF-8") from None
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield Asked(f"{file}:{number}", _turn(line.rstrip("\r")))


def _before_answer(messages: list[Message]) -> list[Message]:
    last = max(place for place, message in enumerate(messages) if message["role"] == "assistant")
    return messages[:last]


def _ids(side: Side, asked: list[Asked], raw: bool, max_new_tokens: int) -> tuple[list[list[int]], frozenset[int]]:
    """The prompts as the model sees them, all of them checked before the first is answered, and what ends an answer."""
    from whet.models.generate import rooms_of
    from whet.tokens.template import Renderer

    renderer = Renderer(side.tokenizer)
    prompts = []
    for one in asked:
        if raw and not isinstance(one.shown, str):
            raise RowError(
                "--raw goes on with a text, and this prompt has turns", where=one.place, do="leave out --raw"
            )
        ids = side.tokenizer(one.shown).input_ids if raw else renderer.prompt(one.messages, place=one.place)
        prompts.append(ids)
    try:
        rooms_of(side.model, prompts, max_new_tokens, [one.place for one in asked])
    except ModelError as error:
        raise RowError(error.what, where=error.where, do=error.do) from None
    return prompts, renderer.stop_ids


def _answers(side: Side, prompts: list[list[int]], stop_ids: frozenset[int], **settings: Any) -> list[Completion]:
    from whet.models.generate import sample

    with side.answering():
        return sample(side.model, side.tokenizer, prompts, stop_ids=stop_ids, **settings)


def _json_line(one: Asked, sides: list[Side], completions: tuple[Completion, ...]) -> str:
    row: dict[str, Any] = {
        "prompt": one.shown,
        "completion": completions[-1].text,
        "stopped": completions[-1].stopped,
    }
    if len(sides) > 1:
        row["base"] = completions[0].text
    return json.dumps(row, ensure_ascii=False)


def _block(one: Asked, sides: list[Side], completions: tuple[Completion, ...]) -> str:
    shown = one.shown if isinstance(one.shown, str) else str(one.messages[-1].get("content") or "")
    lines = [f"> {line}" for line in shown.splitlines()]
    for side, completion in zip(sides, completions, strict=True):
        lines += [f"[{side.name}]"] if len(sides) > 1 else []
        lines.append(_text(one, sides, (completion,)))
    return "\n".join(lines) + "\n"


def _text(one: Asked, sides: list[Side], completions: tuple[Completion, ...]) -> str:
    text = completions[0].text
    return printable(text) if sys.stdout.isatty() else text
