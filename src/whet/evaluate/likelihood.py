"""Metrics of log-probabilities: perplexity and bits a byte of the rows' answers, and which option is likeliest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from whet.errors import RowError
from whet.evaluate.calibrate import CONTENT_FREE, asking, calibrated
from whet.evaluate.measure import Measured, mean_of
from whet.evaluate.metrics import labels
from whet.evaluate.metrics.answers import as_label
from whet.evaluate.perplexity import score_rows
from whet.evaluate.score import Scorer
from whet.evaluate.subject import Subject, reference_of
from whet.objectives.sft import rows_of
from whet.recipe import SFTPart
from whet.rows import Example, Row
from whet.train.run import target_bytes

LIKELIHOOD = ("perplexity", "choice", "classify")
Done = Callable[[int], None]
NAMED = 20
"""Rows that the notes of a figure name."""


def perplexity(subject: Subject, scorer: Scorer, examples: Sequence[Example], done: Done) -> list[Measured]:
    """Perplexity and bits a byte of what would be learnt from these rows: answers, or whole texts."""
    rendered = rows_of(examples, subject.renderer, SFTPart())
    flat = [row for rows in rendered for row in rows]
    scored = iter(score_rows(scorer, flat, target_bytes(flat, subject.tokenizer), done=done))
    stats, long = np.zeros((len(examples), 3)), list[str]()
    for number, rows in enumerate(rendered):
        for found in (next(scored) for _ in rows):
            stats[number] += (-found.nats, found.targets, found.bytes)
            if found.windows > 1:
                long.append(examples[number].place)
    with np.errstate(divide="ignore", invalid="ignore"):
        by_row = np.exp(np.minimum(stats[:, 0] / stats[:, 1], 700)), stats[:, 0] / math.log(2) / stats[:, 2]
    notes = {"sliding_window": {"rows": len(long), "first": long[:NAMED], "tokens": scorer.max_length}} if long else {}
    return [
        Measured("perplexity", stats, lambda sums, n: math.exp(min(sums[0] / sums[1], 700.0)), by_row[0], False, notes),
        Measured("bits_per_byte", stats, lambda sums, n: sums[0] / math.log(2) / sums[2], by_row[1], False),
    ]


def choice(subject: Subject, scorer: Scorer, examples: Sequence[Example], done: Done) -> list[Measured]:
    """Accuracy over the options that each row names: a column `options` (list of texts) beside prompt and answer, which
    is one of them."""
    options = []
    for example in examples:
        found = example.extra.get("options") or example.extra.get("choices")
        if not isinstance(found, list) or len(found) < 2:
            raise RowError("no `options`", where=example.place, do="give each row a list of at least two")
        options.append([str(option) for option in found])
    return _chosen("choice", subject, scorer, examples, options, done)


def classify(
    subject: Subject, scorer: Scorer, examples: Sequence[Example], done: Done, given: Sequence[str] = ()
) -> list[Measured]:
    """Accuracy, macro-F1 and calibration: the likeliest label counts. Labels are `given`, or what the rows' answers
    are."""
    wanted = list(given) or [str(reference_of(example)) for example in examples]
    names = labels.label_names(wanted)
    first = {as_label(label): label for label in reversed(wanted)}  # spelled as it first appears
    spelled = [first[name] for name in names]
    if subject.prompt is not None and subject.prompt.part.labels:
        spelled = _of_prompt(subject.prompt.part.labels, names, spelled)
    return _chosen("classify", subject, scorer, examples, [spelled] * len(examples), done)


def _of_prompt(labels: Sequence[str], names: Sequence[str], spelled: Sequence[str]) -> list[str]:
    """A prompt run's labels. Raises RowError where the rows have others."""
    for name, label in zip(names, spelled, strict=True):
        if name not in {as_label(one) for one in labels}:
            raise RowError(f"{label!r} is none of the prompt's labels", do=f"these are {', '.join(labels)}")
    return list(labels)


def _chosen(
    name: str, subject: Subject, scorer: Scorer, examples: Sequence[Example], options: list[list[str]], done: Done
) -> list[Measured]:
    rows: list[Row] = []
    for example, several in zip(examples, options, strict=True):
        asked = [answered_by(example, option) for option in several]
        rows += [row for found in rows_of(asked, subject.renderer, SFTPart()) for row in found[-1:]]
    calibrate = name == "classify" and subject.prompt is not None and subject.prompt.part.calibrate
    places: list[int] = []
    if calibrate:
        more, places = _content_free(subject, examples, options[0])
        rows += more
    sums = iter([float(logps.astype(np.float64).sum()) for logps in scorer.logps(rows, done)])
    scores = [np.array([next(sums) for _ in several]) for several in options]
    if calibrate:
        neutral_RCL = np.array(list(sums)).reshape(-1, len(CONTENT_FREE), len(options[0]))[places]
        scores = list(calibrated(np.array(scores), neutral_RCL))
    chosen, probabilities, wanted = [], [], []
    for example, several, logps in zip(examples, options, scores, strict=True):
        shifted = np.exp(logps - logps.max())
        probabilities.append(shifted / shifted.sum())
        chosen.append(int(logps.argmax()))
        wanted.append(_place_of(reference_of(example), several, example))
    found = [mean_of(name, [float(a == b) for a, b in zip(chosen, wanted, strict=True)])]
    if name == "classify":
        names = [as_label(option) for option in options[0]]
        found.append(labels.of_labels([names[n] for n in chosen], [names[n] for n in wanted], names))
    return [*found, labels.calibration(probabilities, wanted)]


def _content_free(subject: Subject, examples: Sequence[Example], labels: Sequence[str]) -> tuple[list[Row], list[int]]:
    """Content-free questions with every label, once for the rows that have the same turns (and demonstrations) before
    their own question; and which of these each row has."""
    keys = [str(e.messages if subject.renderer.by_question else e.messages[:-2]) for e in examples]
    first = dict(zip(keys, examples, strict=True))
    number = {key: place for place, key in enumerate(first)}
    asked = [asking(example, text) for example in first.values() for text in CONTENT_FREE]
    answered = [answered_by(one, label) for one in asked for label in labels]
    return [found[-1] for found in rows_of(answered, subject.renderer, SFTPart())], [number[key] for key in keys]


def answered_by(example: Example, answer: str) -> Example:
    """The row with another last answer, which alone is scored."""
    last = max(place for place, turn in enumerate(example.messages) if turn["role"] == "assistant")
    turns: list[dict[str, Any]] = [*example.messages[:last], {"role": "assistant", "content": answer}]
    context = [turn | {"weight": 0} if turn["role"] == "assistant" else turn for turn in turns[:-1]]
    return replace(example, messages=[*context, turns[-1]])


def _place_of(reference: Any, options: list[str], example: Example) -> int:
    names = [as_label(option) for option in options]
    several = reference if isinstance(reference, list) else [reference]
    for one in several:
        if as_label(str(one)) in names:
            return names.index(as_label(str(one)))
    raise RowError(
        f"the answer {str(reference)[:60]!r} is none of {', '.join(repr(option[:40]) for option in options[:8])}",
        where=example.place,
        do="correct the row, or name its answer among the options or --labels",
    )
