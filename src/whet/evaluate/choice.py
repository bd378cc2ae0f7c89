"""Multiple choice and classification by log-probability: the answer is the option that the model finds likeliest.

A question's options share its context, and questions share their preamble; on the trie each is computed once.
What is compared (Brown et al. 2020, arXiv 2005.14165; Holtzman et al. 2021, arXiv 2104.08315):

    sum            log p(option | context)
    mean           ... / characters of the option            length-normalised (lm-eval's acc_norm)
    unconditional  ... - log p(option | neutral context)     what the context adds to how likely the option is anyway
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from whet.errors import ModelError, RowError
from whet.evaluate.encode import Pair, continuations
from whet.evaluate.score import Scorer
from whet.rows import named

NORMS = ("sum", "mean", "unconditional")


@dataclass(frozen=True)
class Question:
    """`context` is text that the options go on from, each behind `delimiter`. `answer` is the index of the right one,
    None where it is not known. `neutral` is the context of the unconditional variant."""

    context: str
    options: tuple[str, ...]
    answer: int | None = None
    place: str = ""
    neutral: str = "Answer:"
    delimiter: str = " "

    def goes_on(self, number: int) -> str:
        """What follows the context: the option behind its delimiter."""
        return self.delimiter + self.options[number]


@dataclass(frozen=True)
class Answered:
    """log p of each option [options], by norm, and the index of the likeliest by each."""

    question: Question
    logps: dict[str, np.ndarray]

    def chosen(self, norm: str) -> int:
        """The first of the likeliest options."""
        return int(np.argmax(self.logps[norm]))

    def right(self, norm: str) -> bool:
        """Whether that is the answer."""
        return self.chosen(norm) == self.question.answer

    def probabilities(self, norm: str = "sum") -> np.ndarray:
        """[options], summing to one."""
        shifted = np.exp(self.logps[norm] - self.logps[norm].max())
        return np.asarray(shifted / shifted.sum())


def answer(
    scorer: Scorer,
    tokenizer: Any,
    questions: Sequence[Question],
    norms: Sequence[str] = ("sum", "mean"),
    cut: bool = False,
    done: Callable[[int], None] = lambda rows: None,
    note: Callable[[str], None] = lambda text: None,
) -> list[Answered]:
    """Score every option of every question. Where questions are longer than the model takes, their beginning is left
    out if `cut`, and `note` is told how many; else ModelError counts and names them. Raises RowError for a question
    without options or with an empty one."""
    pairs: list[Pair] = []
    for question in questions:
        _check(question)
        contexts = [question.context, *([question.neutral] if "unconditional" in norms else [])]
        for context in contexts:
            pairs += [(context, question.goes_on(n), question.place) for n in range(len(question.options))]
    rows = continuations(tokenizer, pairs)
    long = list(dict.fromkeys(row.place for row in rows if not scorer.fits(row)))
    if long:
        what = f"{len(long):,} of {len(questions):,} questions are longer than the {scorer.max_length:,} tokens that"
        if not cut:
            raise ModelError(
                f"{what} the model takes: {named(long)}",
                do="take fewer shots (--num-fewshot), or let their beginning be cut, as lm-eval does (--cut)",
            )
        note(f"{what} the model takes; their beginning is left out: {named(long)}")
        rows = [scorer.cut(row) for row in rows]
    sums = [float(logps.astype(np.float64).sum()) for logps in scorer.logps(rows, done)]
    answered, at = [], 0
    for question in questions:
        size = len(question.options)
        logps = {"sum": np.array(sums[at : at + size])}
        at += size
        lengths = np.array([max(len(option), 1) for option in question.options])
        logps["mean"] = logps["sum"] / lengths
        if "unconditional" in norms:
            logps["unconditional"] = logps["sum"] - np.array(sums[at : at + size])
            at += size
        answered.append(Answered(question, {norm: logps[norm] for norm in norms}))
    return answered


def _check(question: Question) -> None:
    if not question.options or any(not option for option in question.options):
        raise RowError("a question needs options, none of them empty", where=question.place or None)
    if question.answer is not None and not 0 <= question.answer < len(question.options):
        raise RowError(
            f"answer {question.answer} of {len(question.options)} options",
            where=question.place or None,
            do="answers count from 0",
        )
