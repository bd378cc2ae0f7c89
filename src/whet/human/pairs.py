"""Files of answers -> pairs of answers to one prompt. What makes no pair is counted and named."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from whet.data.read import read
from whet.data.shapes import recognise
from whet.data.sources import tables
from whet.errors import RowError
from whet.recipe import DataPart
from whet.rows import Example, Message, named

Turns = list[Message]


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, and whose they are. `place` is where they were read."""

    prompt: Turns
    answers: tuple[Turns, Turns]
    models: tuple[str, str]
    place: str
    tools: list[dict[str, Any]] | None = None

    @property
    def question(self) -> str:
        """The prompt as a key: equal where the same is asked."""
        return key_of(self.prompt)


@dataclass
class Material:
    """What there is to judge. `notes` say what was left out, and where."""

    pairs: list[Pair]
    models: list[str]
    notes: list[str] = field(default_factory=list)


def key_of(turns: Turns) -> str:
    return json.dumps([[turn["role"], turn["content"]] for turn in turns])


def said(turns: Turns) -> str:
    """The text of an answer's turns, as a judge reads it: tool calls are JSON."""
    parts = []
    for turn in turns:
        label = "" if turn["role"] == "assistant" else f"[{turn['role']}] "
        calls = [json.dumps(call, ensure_ascii=False) for call in turn.get("tool_calls") or []]
        parts.append(label + "\n".join(filter(None, [turn["content"], *calls])))
    return "\n\n".join(parts)


def read_answers(paths: Sequence[str], columns: dict[str, str]) -> Material:
    """Pairs of what each two files answer to the same prompt. Rows are those that supervised fine-tuning reads; files
    are joined by `id` where every row of all of them has one, else by the prompt.

    Raises RowError for rows that cannot be read, and where no two files answer one prompt.
    """
    names = _names(paths)
    files = [read([DataPart(path=path, columns=columns)], "sft") for path in paths]
    by_id = all(example.id is not None for examples in files for example in examples)
    found = Material([], names)
    answered = [_by_key(examples, by_id, found.notes) for examples in files]
    for one, other in combinations(range(len(paths)), 2):
        a, b = answered[one], answered[other]
        _note_alone(found.notes, a, b, paths[one], paths[other], by_id)
        _note_alone(found.notes, b, a, paths[other], paths[one], by_id)
        found.pairs += [_joined(a[key], b[key], (names[one], names[other])) for key in a if key in b]
    if not found.pairs:
        raise RowError("\n".join(["no two files answer the same prompt", *found.notes]), do="answer one set of prompts")
    return _judgeable(found)


def read_pairs(path: str, columns: dict[str, str]) -> Material:
    """Pairs of a file whose rows have two answers: `prompt`, `chosen`, `rejected`, or `prompt`, `answers`."""
    records = [record for _, rows in tables(path, "train") for record in rows]
    of_two = [row for _, row in records if row.get("answers") is not None]
    if of_two and not columns:
        examples = [_of_two(row, place) for place, row in records]
        names = ["first", "second"]
    else:
        examples = read([DataPart(path=path, columns=columns)], "preference")
        names = ["chosen", "rejected"]
    pairs = [Pair(e.prompt, (e.chosen, e.rejected), (names[0], names[1]), e.place, e.tools) for e in examples]
    return _judgeable(Material(pairs, names))


def _of_two(row: dict[str, Any], place: str) -> Example:
    answers = row.get("answers")
    if not isinstance(answers, list) or len(answers) != 2:
        found = f"{len(answers)} answers" if isinstance(answers, list) else "no list of answers"
        raise RowError(f"{found}; `answers` holds the two that are compared", where=place)
    aside = ("answers", "chosen", "rejected")
    plain = {key: value for key, value in row.items() if value is not None and key not in aside}
    plain |= {"chosen": answers[0], "rejected": answers[1]}
    return recognise(plain, "preference", place).example(plain, place)


@dataclass(frozen=True)
class Answered:
    """A row, its prompt and its answer."""

    example: Example
    prompt: Turns
    answer: Turns


def _by_key(examples: list[Example], by_id: bool, notes: list[str]) -> dict[str, Answered]:
    """A file's rows by what they are joined by; of several with one key the first."""
    rows: dict[str, Answered] = {}
    again = []
    for example in examples:
        row = _split(example)
        key = str(example.id) if by_id else key_of(row.prompt)
        if key in rows:
            again.append(example.place)
        else:
            rows[key] = row
    if again:
        what = "id" if by_id else "prompt"
        notes.append(
            f"{_counted(again, 'row')} with the {what} of an earlier row, whose answer is taken: {named(again)}"
        )
    return rows


def _split(example: Example) -> Answered:
    """The turns up to the last that is not the assistant's, and its answer behind them."""
    if example.shape != "conversation":
        raise RowError("a text, which answers no prompt", where=example.place, do="give rows of prompt and completion")
    turns = [{key: value for key, value in turn.items() if key != "weight"} for turn in example.messages]
    last = max((place for place, turn in enumerate(turns) if turn["role"] != "assistant"), default=-1)
    if last < 0 or last == len(turns) - 1:
        raise RowError("no prompt with an answer behind it", where=example.place)
    return Answered(example, turns[: last + 1], turns[last + 1 :])


def _joined(one: Answered, other: Answered, models: tuple[str, str]) -> Pair:
    if key_of(one.prompt) != key_of(other.prompt):
        raise RowError(
            f"id {one.example.id!r} is another prompt at {other.example.place}",
            where=one.example.place,
            do="answers to compare are to one prompt: mend the ids, or leave them out to join by prompt",
        )
    place = f"{one.example.place}, {other.example.place}"
    return Pair(one.prompt, (one.answer, other.answer), models, place, one.example.tools)


def _note_alone(
    notes: list[str], rows: dict[str, Answered], others: dict[str, Answered], path: str, beside: str, by_id: bool
) -> None:
    if alone := [row.example.place for key, row in rows.items() if key not in others]:
        what = "id" if by_id else "prompt"
        rest = f"of {path} without an answer to the same {what} in {beside}: {named(alone)}"
        notes.append(f"{_counted(alone, 'row')} {rest}")


def _judgeable(found: Material) -> Material:
    """Without pairs of equal answers and pairs that are there before, in whichever order. Raises RowError where none is
    left."""
    kept: dict[tuple[str, frozenset[str], frozenset[str]], Pair] = {}
    equal, again, empty = [], [], []
    for pair in found.pairs:
        texts = [said(turns) for turns in pair.answers]
        key = (pair.question, frozenset(texts), frozenset(pair.models))
        if texts[0].strip() == texts[1].strip():
            equal.append(pair.place)
        elif key in kept:
            again.append(pair.place)
        else:
            kept[key] = pair
            if not all(text.strip() for text in texts):
                empty.append(pair.place)
    _note(found.notes, equal, lambda n: f"{n} of two equal answers, left out: nothing to choose")
    _note(found.notes, again, lambda n: f"{n} there before (in this order or the other), left out")
    _note(found.notes, empty, lambda n: f"{n} with an empty answer, shown as such")
    found.pairs = list(kept.values())
    if not found.pairs:
        raise RowError("\n".join(["no pair to judge", *found.notes]), do="give two different answers to a prompt")
    return found


def _note(notes: list[str], places: list[str], words: Callable[[str], str]) -> None:
    if places:
        notes.append(f"{words(_counted(places, 'pair'))}: {named(places)}")


def _counted(places: list[str], what: str) -> str:
    return f"{len(places):,} {what}" + ("s" if len(places) > 1 else "")


def _names(paths: Sequence[str]) -> list[str]:
    """What each file's model is called: the file's name, or the path where two names are the same."""
    stems = [Path(path.split("#")[0]).name.removesuffix(".gz") for path in paths]
    stems = [Path(stem).stem for stem in stems]
    names = stems if len(set(stems)) == len(stems) else list(paths)
    if len(set(names)) < len(names):
        raise RowError("one file is given twice", where=", ".join(paths), do="give the answers of two models")
    return names
