"""In-context learning: the labelled rows are turns before the question; nothing is trained.

Contextual calibration (Zhao et al. 2021, arXiv 2102.09690): the model is asked with content-free questions behind the
same demonstrations, and its label shares there, averaged, divide those of the real question:

    log q(label | prompt) = log p(label | prompt) - log mean over c of p(label | c)         c: "N/A", "[MASK]", ""
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from whet.evaluate.score import Scorer
from whet.evaluate.subject import Subject
from whet.fewshot.shots import Labelled
from whet.fewshot.tune import label_rows
from whet.rows import Example

CONTENT_FREE = ("N/A", "[MASK]", "")


@dataclass(frozen=True)
class Measured:
    """Of each test row, log p of each label [rows, labels], and of each content-free question behind the same
    demonstrations [rows, content-free, labels]; the demonstrations a row had on average."""

    logps_RL: np.ndarray
    neutral_RCL: np.ndarray
    shots: float = 0.0


def zero(scorer: Scorer, subject: Subject, test: Labelled) -> Measured:
    """Without demonstrations."""
    return behind(scorer, subject, test, [], 0)


def behind(
    scorer: Scorer, subject: Subject, test: Labelled, demonstrations: Sequence[Example], max_length: int
) -> Measured:
    """Behind as many demonstrations, in their order, as leave the row whole with every label within `max_length`
    tokens: the last ones are kept. Rows that have as many share them in the trie."""
    asked, counts = _fitted(subject, test, demonstrations, max_length)
    different = sorted(set(counts))
    content_free = [
        _behind(_asking(test.examples[0], text), demonstrations[len(demonstrations) - count :])
        for count in different
        for text in CONTENT_FREE
    ]
    rows = label_rows([*asked, *content_free], test.labels, subject.renderer)
    sums = np.array([float(logps.astype(np.float64).sum()) for logps in scorer.logps(rows)])
    logps = sums.reshape(-1, len(test.labels))
    neutral = logps[len(asked) :].reshape(len(different), len(CONTENT_FREE), -1)
    by_row = neutral[[different.index(count) for count in counts]]
    return Measured(logps[: len(asked)], by_row, float(np.mean(counts)) if counts else 0.0)


def calibrated(measured: Measured) -> np.ndarray:
    """log q [rows, labels], up to what is the same for all labels of a row."""
    shares = np.exp(_shares(measured.neutral_RCL)).mean(1)
    return np.asarray(_shares(measured.logps_RL) - np.log(shares))


def _shares(logps: np.ndarray) -> np.ndarray:
    """Log of each label's share among the labels, over the last axis."""
    shifted = logps - logps.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def _fitted(
    subject: Subject, test: Labelled, demonstrations: Sequence[Example], max_length: int
) -> tuple[list[Example], list[int]]:
    """Each row behind what fits, and how many that are. Lengths of parts add up but for what a template puts between,
    so a guess is made by them, and checked on the row itself."""
    if not demonstrations:
        return list(test.examples), [0] * len(test.examples)
    bare = _longest(subject, test.examples, test.labels)
    alone = _longest(subject, demonstrations, test.labels)
    asked, counts = [], []
    for example, length in zip(test.examples, bare, strict=True):
        room = max_length - length
        count = 0
        while count < len(demonstrations) and (room := room - alone[len(demonstrations) - 1 - count]) >= 0:
            count += 1
        longer = _behind(example, demonstrations[len(demonstrations) - count :])
        while count and _longest(subject, [longer], test.labels)[0] > max_length:
            count -= 1
            longer = _behind(example, demonstrations[len(demonstrations) - count :])
        asked.append(longer)
        counts.append(count)
    return asked, counts


def _longest(subject: Subject, examples: Sequence[Example], labels: Sequence[str]) -> list[int]:
    """Tokens of each with its longest label."""
    lengths = np.array([len(row) for row in label_rows(examples, labels, subject.renderer)])
    return [int(n) for n in lengths.reshape(len(examples), -1).max(1)]


def _behind(example: Example, demonstrations: Sequence[Example]) -> Example:
    """The example's turns behind the demonstrations', a system prompt first."""
    system = [turn for turn in example.messages[:1] if turn["role"] == "system"]
    before = [turn for each in demonstrations for turn in each.messages if turn["role"] != "system"]
    return replace(example, messages=[*system, *before, *example.messages[len(system) :]])


def _asking(example: Example, text: str) -> Example:
    """The example with another question."""
    turns = [*example.messages[:-2], {**example.messages[-2], "content": text}, example.messages[-1]]
    return replace(example, messages=turns)
