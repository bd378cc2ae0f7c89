"""In-context learning measured: labelled rows are turns before the question, and the likeliest label is the answer.

Nothing is trained. Rows behind the same demonstrations share them on the trie, so these are computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from whet.errors import ModelError, RecipeError
from whet.evaluate.calibrate import CONTENT_FREE, asking, calibrated, log_shares
from whet.evaluate.likelihood import answered_by
from whet.evaluate.score import Scorer
from whet.objectives.sft import rows_of
from whet.recipe import SFTPart
from whet.rows import Example, Row
from whet.tokens.template import Renderer

Choose = Callable[[Example], Sequence[Example]]
"""A question -> its demonstrations, in the order they stand before it."""

LONGEST = 8
"""Rows whose length is looked at beforehand."""


@dataclass(frozen=True)
class Measured:
    """log p of each label behind each question [rows, labels], its tokens and the end of the turn summed; of each
    content-free question behind the row's demonstrations [rows, content-free, labels] where calibrated; and how many
    demonstrations each row had [rows]."""

    labels: tuple[str, ...]
    logps_RL: np.ndarray
    neutral_RCL: np.ndarray | None
    shots_R: np.ndarray

    def scores(self) -> np.ndarray:
        """What is compared [rows, labels]: log shares, calibrated where content-free questions were asked."""
        if self.neutral_RCL is None:
            return log_shares(self.logps_RL)
        return calibrated(self.logps_RL, self.neutral_RCL)

    def chosen(self) -> np.ndarray:
        """The index of each row\'s likeliest label [rows]."""
        return np.asarray(self.scores().argmax(1))

    def probabilities(self) -> np.ndarray:
        """[rows, labels], each row summing to one."""
        return np.asarray(np.exp(log_shares(self.scores())))


def measure(
    scorer: Scorer,
    renderer: Renderer,
    examples: Sequence[Example],
    labels: Sequence[str],
    demonstrations: Sequence[Example] | Choose = (),
    *,
    calibrate: bool = False,
    too_long: Literal["stop", "fewer"] = "stop",
    max_length: int | None = None,
    done: Callable[[int], None] = lambda rows: None,
) -> Measured:
    """Score every label behind every row's question.

    `demonstrations` stand before each question in this order: the same for all, or what a function gives for the row.
    None of them: zero-shot. `calibrate` asks content-free questions behind the same demonstrations, too. Where they and
    the question are longer than the model (or `max_length` tokens), `stop` raises ModelError with how many fit, `fewer`
    leaves out the first of them, and `shots_R` tells how many stayed. `done` gets scored sequences at a time.

    Raises RecipeError for fewer than two labels, ModelError for a question that does not fit alone.
    """
    if len(set(labels)) < 2 or len(set(labels)) < len(labels):
        raise RecipeError(
            f"{len(labels)} labels, {len(set(labels))} of them different", where="labels", do="two or more"
        )
    before = [list(demonstrations(e) if callable(demonstrations) else demonstrations) for e in examples]
    limit = min((n for n in (scorer.max_length, max_length) if n is not None), default=None)
    rows = label_rows([behind(e, shown) for e, shown in zip(examples, before, strict=True)], labels, renderer)
    if over := _over(rows, len(labels), limit):
        before = _fitted(renderer, examples, labels, before, over, limit or 0, too_long)
        rows = label_rows([behind(e, shown) for e, shown in zip(examples, before, strict=True)], labels, renderer)
    groups: dict[tuple[int | str, ...], int] = {}
    keys = [_key(shown, example, renderer.by_question) for shown, example in zip(before, examples, strict=True)]
    group_of = [groups.setdefault(key, len(groups)) for key in keys]
    neutral: list[Example] = []
    if calibrate:
        firsts = [group_of.index(number) for number in range(len(groups))]
        neutral = [behind(asking(examples[i], text), before[i]) for i in firsts for text in CONTENT_FREE]
    rows += label_rows(neutral, labels, renderer)
    sums = np.array([float(logps.astype(np.float64).sum()) for logps in scorer.logps(rows, done)])
    logps = sums.reshape(-1, len(labels))
    by_group = logps[len(examples) :].reshape(-1, len(CONTENT_FREE), len(labels))
    shots_R = np.array([len(shown) for shown in before])
    return Measured(tuple(labels), logps[: len(examples)], by_group[group_of] if calibrate else None, shots_R)


def check_lengths(
    scorer: Scorer,
    renderer: Renderer,
    examples: Sequence[Example],
    labels: Sequence[str],
    demonstrations: Sequence[Example] | Choose = (),
) -> None:
    """Raise the ModelError that `measure` would, before anything is scored. The rows with most characters are looked
    at, and all only where one of these is too long."""
    asked = [behind(e, demonstrations(e) if callable(demonstrations) else demonstrations) for e in examples]
    sizes = [sum(len(str(turn["content"])) for turn in example.messages) for example in asked]
    longest = sorted(range(len(asked)), key=lambda i: sizes[i])[-LONGEST:]
    if _over(label_rows([asked[i] for i in longest], labels, renderer), len(labels), scorer.max_length):
        before = [list(demonstrations(e) if callable(demonstrations) else demonstrations) for e in examples]
        over = _over(label_rows(asked, labels, renderer), len(labels), scorer.max_length)
        _fitted(renderer, examples, labels, before, over, scorer.max_length or 0, "stop")


def behind(example: Example, demonstrations: Sequence[Example]) -> Example:
    """The row's turns behind those of the demonstrations; a system prompt of its own comes first."""
    system = [turn for turn in example.messages[:1] if turn["role"] in ("system", "developer")]
    before = [turn for each in demonstrations for turn in each.messages if turn["role"] not in ("system", "developer")]
    return replace(example, messages=[*system, *before, *example.messages[len(system) :]])


def label_rows(examples: Sequence[Example], labels: Sequence[str], renderer: Renderer) -> list[Row]:
    """Each row answered by each label, row by row."""
    asked = [answered_by(example, label) for example in examples for label in labels]
    return [found[-1] for found in rows_of(asked, renderer, SFTPart())]


def _key(shown: Sequence[Example], example: Example, by_question: bool) -> tuple[int | str, ...]:
    """Rows with the same demonstrations, and the same turns before their own question, share what is content-free."""
    return (*(id(each) for each in shown), str(example.messages if by_question else example.messages[:-2]))


def _over(rows: Sequence[Row], labels: int, limit: int | None) -> dict[int, int]:
    """Tokens of each question that is too long with some label; nothing is predicted from a row's last token."""
    longest = [max(map(len, rows[at : at + labels])) for at in range(0, len(rows), labels)]
    return {} if limit is None else {i: length for i, length in enumerate(longest) if length - 1 > limit}


def _fitted(
    renderer: Renderer, examples: Sequence[Example], labels: Sequence[str], before: list[list[Example]],
    over: dict[int, int], limit: int, too_long: str,
) -> list[list[Example]]:  # fmt: skip
    """The demonstrations that leave each row whole with every label: of the last ones as many as can be."""
    fits = dict.fromkeys(over, 0)  # bisected: a row is longer with each demonstration more
    step = 1 << max(len(before[i]) for i in over).bit_length()
    while step := step // 2:
        tried = [i for i in over if fits[i] + step <= len(before[i])]
        shown = [before[i][len(before[i]) - fits[i] - step :] for i in tried]
        for i, length in zip(tried, _lengths(renderer, [examples[i] for i in tried], labels, shown), strict=True):
            fits[i] += step if length - 1 <= limit else 0
    bare = _lengths(renderer, [examples[i] for i in over], labels, [[] for _ in over])
    for i, length in zip(over, bare, strict=True):
        if length - 1 > limit:
            what = f"the question alone has {length:,} tokens, and the model takes {limit:,}"
            raise ModelError(what, where=examples[i].place, do="shorten it, or leave the row out")
    if too_long == "stop":
        first = max(over, key=lambda i: over[i])
        raise ModelError(
            f"{len(before[first])} demonstrations and the question have {over[first]:,} tokens, and the model takes "
            f"{limit:,}; {len(over):,} of {len(examples):,} rows are too long",
            where=examples[first].place,
            do=f"{min(fits.values())} fit before every question: take so many shots, or shorter rows to show",
        )
    return [shown[len(shown) - fits[i] :] if i in fits else shown for i, shown in enumerate(before)]


def _lengths(
    renderer: Renderer, examples: Sequence[Example], labels: Sequence[str], before: Sequence[Sequence[Example]]
) -> list[int]:
    """Tokens of each row with its longest label."""
    asked = [behind(example, shown) for example, shown in zip(examples, before, strict=True)]
    lengths = np.array([len(row) for row in label_rows(asked, labels, renderer)])
    return [int(n) for n in lengths.reshape(len(asked), -1).max(1)] if asked else []
