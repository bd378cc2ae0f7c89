"""The rows of a prompt run: labelled ones to show, and held-out ones to search by, none of which is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from whet.errors import RecipeError, RowError
from whet.evaluate.subject import reference_of
from whet.models.in_context.choose import Demonstration
from whet.rows import Example

MOST_LABELS = 50


@dataclass(frozen=True)
class Labelled:
    """Rows, the index of each one's label, and the labels as the model is to say them."""

    examples: list[Example]
    answers: list[int]
    labels: list[str]

    def take(self, places: Sequence[int]) -> Labelled:
        return Labelled([self.examples[i] for i in places], [self.answers[i] for i in places], self.labels)


def labels_of(examples: Sequence[Example]) -> list[str]:
    """The different answers of rows, each as most spell it, by name. Raises RowError for what is no label."""
    spelled: dict[str, Counter[str]] = {}
    for example in examples:
        spelled.setdefault(_name(_answer(example)), Counter())[_answer(example)] += 1
    if not 2 <= len(spelled) <= MOST_LABELS:
        raise RowError(
            f"{len(spelled)} different answers in {len(examples):,} rows",
            do=f"prompts are searched by labels, 2 to {MOST_LABELS}: name them with --labels, or their column with "
            "columns.completion=NAME",
        )
    return [spelled[name].most_common(1)[0][0] for name in sorted(spelled)]


def labelled(examples: Sequence[Example], labels: Sequence[str]) -> Labelled:
    """The rows, answers spelled as `labels` has them. Raises RowError for an answer that is none of these."""
    place = {_name(label): number for number, label in enumerate(labels)}
    if len(place) < 2 or len(place) < len(labels):
        raise RecipeError(f"{len(place)} different labels", where="labels", do="give two or more: --labels yes,no")
    answers = []
    for example in examples:
        if (name := _name(_answer(example))) not in place:
            raise RowError(
                f"the answer {_answer(example)[:60]!r} is none of the labels",
                where=example.place,
                do=f"these are {', '.join(labels)}: name them all with --labels",
            )
        answers.append(place[name])
    spelled = [
        replace(e, messages=[*e.messages[:-1], {**e.messages[-1], "content": labels[n]}])
        for e, n in zip(examples, answers, strict=True)
    ]
    return Labelled(spelled, answers, list(labels))


def never_seen(rows: Labelled, what: str) -> list[str]:
    """Notes on labels that no row has."""
    seen = set(rows.answers)
    missing = [label for number, label in enumerate(rows.labels) if number not in seen]
    return [f"no row {what} is labelled {', '.join(map(repr, missing))}"] if missing else []


def divided(rows: Labelled, share: float, seed: int) -> tuple[Labelled, Labelled]:
    """(to show, validation): a share of the rows drawn by the seed (above 1: so many). Rows that ask the same go to one
    side."""
    wanted = round(share * len(rows.examples)) if share < 1 else int(share)
    groups: dict[str, list[int]] = {}
    for place, example in enumerate(rows.examples):
        groups.setdefault(asks(example), []).append(place)
    held: list[int] = []
    order = list(groups.values())
    for number in np.random.default_rng(seed).permutation(len(order)):
        if len(held) >= wanted:
            break
        held += order[int(number)]
    if not held or len(held) == len(rows.examples):
        raise RecipeError(
            f"{len(held):,} of {len(rows.examples):,} rows for validation", where="validation", do="leave some to show"
        )
    kept = set(range(len(rows.examples))) - set(held)
    return rows.take(sorted(kept)), rows.take(sorted(held))


def without(rows: Labelled, others: Sequence[Example]) -> tuple[Labelled, int]:
    """The rows that ask nothing that `others` ask, and how many others there were."""
    asked = {asks(example) for example in others}
    kept = [place for place, example in enumerate(rows.examples) if asks(example) not in asked]
    return rows.take(kept), len(rows.examples) - len(kept)


def asks(example: Example) -> str:
    """What a row asks, for telling rows apart: its turns before the answer, but for white space and case."""
    return "\n".join(" ".join(str(turn.get("content")).lower().split()) for turn in example.messages[:-1])


def demonstration(example: Example) -> Demonstration:
    """A row to show. A system prompt of its own is left out: there is one for all."""
    turns: list[dict[str, Any]] = [
        {"role": turn["role"], "content": turn["content"]}
        for turn in example.messages
        if turn["role"] not in ("system", "developer")
    ]
    return Demonstration(tuple(turns), example.place)


def as_example(shown: Demonstration) -> Example:
    """A demonstration as `measure` takes it."""
    return Example(shown.place, "conversation", messages=list(shown.turns))


def _answer(example: Example) -> str:
    turns = example.messages
    if example.shape != "conversation" or len(turns) < 2 or turns[-1]["role"] != "assistant":
        raise RowError("no question and answer here", where=example.place, do="a row needs `prompt` and `completion`")
    if any(turn["role"] not in ("system", "developer", "user", "assistant") for turn in turns):
        raise RowError("turns of tools cannot be shown", where=example.place, do="leave the row out")
    found = reference_of(example)
    if isinstance(found, list) or not _name(str(found)):
        raise RowError("no label here", where=example.place, do="each row needs one label as its answer")
    return str(found).strip()


def _name(label: str) -> str:
    """A label for telling labels apart: white space and case do not count. (Articles do: A is a label.)"""
    return " ".join(label.casefold().split())
