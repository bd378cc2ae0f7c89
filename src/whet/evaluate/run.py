"""`evaluate`: a model, rows, metrics -> an Evaluation, with an interval on every figure."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from whet.errors import ModelError, RecipeError, RowError, did_you_mean
from whet.evaluate import likelihood
from whet.evaluate.judge import Asked, Judge
from whet.evaluate.measure import Interval, Measured, mean_of
from whet.evaluate.metrics import METRICS
from whet.evaluate.subject import Subject, columns_of, open_subject, prompt_of, read_rows, reference_of
from whet.functions import load_function
from whet.models.generate import AT_ONCE, room, sample
from whet.models.load import Loaded
from whet.recipe import DataPart
from whet.rows import Example, named

FEWEST = 5
"""Rows of a slice that is reported."""
JUDGE = "judge"


@dataclass(frozen=True)
class Evaluation:
    """What came of it. `measured` are the figures, `columns` the rows with what was answered, `slices` the figures over
    the rows of each value of a column."""

    model: str
    data: str
    measured: list[Measured]
    intervals: dict[str, Interval]
    slices: dict[str, dict[str, dict[str, Interval]]]
    columns: dict[str, list[Any]]
    settings: dict[str, Any]
    seconds: float
    notes: list[str] = field(default_factory=list)
    examples: Sequence[Example] = ()

    @property
    def rows(self) -> int:
        return len(self.columns["place"])

    def __getitem__(self, name: str) -> float:
        return self.intervals[name].value

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {found.value:.4g} ({found.low:.4g} to {found.high:.4g})" for name, found in self.intervals.items()
        )


def evaluate(
    model: str | Loaded | Subject,
    data: str | DataPart | Sequence[DataPart] | Sequence[Example],
    metrics: Sequence[str | Callable[..., Any]] = ("perplexity",),
    *,
    slices: Sequence[str] = (),
    labels: Sequence[str] = (),
    max_new_tokens: int = 256,
    judge: Judge | None = None,
    answered: bool = False,
    seed: int = 0,
    batch_size: int = AT_ONCE,
    done: Callable[[str, int, int], None] = lambda what, rows, of: None,
) -> Evaluation:
    """Measure a run or any model on rows.

    `metrics` are names (see METRICS and LIKELIHOOD), `judge`, `FILE.py:FUNCTION`, or functions of your own, called with
    `(completions, **columns)`. `slices` are columns of the rows; `labels` those
    that `classify` chooses from (none: the rows' answers). Answers are greedy; with `answered` they are made even
    where no metric reads them. `done(what, rows, of)` is told of progress. Raises RecipeError for a metric that does
    not exist, RowError for rows that a metric cannot use, ModelError for rows too long for the model and for a judge
    that fails.
    """
    begin = time.perf_counter()
    found = [metric_of(metric) for metric in metrics]
    if JUDGE in found and judge is None:
        raise RecipeError("no judge named", where="metrics", do="say who judges: judge.endpoint=..., judge.model=...")
    subject = model if isinstance(model, Subject) else open_subject(model)
    examples = subject.asked(read_rows(data, seed))
    columns = columns_of(examples)
    _check_slices(slices, columns)
    measured: list[Measured] = []
    notes: list[str] = []
    by_logps = [metric for metric in found if metric in likelihood.LIKELIHOOD]
    if by_logps:
        scorer = subject.scorer()
        notes += [scorer.note] if scorer.note else []
        for name in by_logps:
            given = {"given": labels} if name == "classify" else {}
            counted = _counting(name, len(examples), done)
            measured += getattr(likelihood, name)(subject, scorer, examples, counted, **given)
    if len(by_logps) < len(found) or answered:
        completions = answers(subject, examples, columns, max_new_tokens, batch_size, seed, done, notes.append)
        for metric in found:
            if metric == JUDGE and judge is not None:
                measured.append(judge.grades(asked_of(examples), completions, done))
            elif not isinstance(metric, str):
                measured += metric(completions, columns)
    intervals = {one.name: one.interval(seed) for one in measured}
    settings = {"metrics": [_name(metric) for metric in metrics], "max_new_tokens": max_new_tokens, "seed": seed}
    by_slice = {name: sliced(name, columns, measured, seed) for name in slices}
    seconds = time.perf_counter() - begin
    return Evaluation(
        subject.name, _label(data), measured, intervals, by_slice, columns, settings, seconds, notes, examples
    )


def asked_of(examples: Sequence[Example]) -> list[Asked]:
    """The rows as a judge sees them."""
    shown = []
    for example in examples:
        reference = reference_of(example)
        text = "\n\nor:\n\n".join(reference) if isinstance(reference, list) else reference
        shown.append(Asked(prompt_of(example), text, example.place))
    return shown


def answers(
    subject: Subject, examples: Sequence[Example], columns: dict[str, list[Any]], max_new_tokens: int, batch_size: int,
    seed: int, done: Callable[[str, int, int], None] = lambda what, rows, of: None,
    note: Callable[[str], None] = lambda text: None,
) -> list[str]:  # fmt: skip
    """A greedy answer for each row; also put into `columns` as `completion` and `stopped`. Raises ModelError where
    prompts are longer than the model takes: all are counted, and the first named."""
    prompts = [subject.renderer.prompt(prompt_of(example), example.tools, example.place) for example in examples]
    _check_room(subject, prompts, columns["place"], max_new_tokens, note)
    found = sample(
        subject.model, subject.tokenizer, prompts, stop_ids=subject.renderer.stop_ids, max_new_tokens=max_new_tokens,
        batch_size=batch_size, seed=seed, places=columns["place"], done=_counting("answers", len(prompts), done),
    )  # fmt: skip
    columns["completion"] = [completion.text for completion in found]
    columns["stopped"] = [completion.stopped for completion in found]
    missing = [place for place, ref in zip(columns["place"], columns.get("reference", []), strict=False) if not ref]
    if missing:
        note(f"{len(missing):,} of {len(found):,} references are empty: {named(missing)}")
    if empty := sum(not text.strip() for text in columns["completion"]):
        note(f"{empty:,} of {len(found):,} answers are empty")
    return columns["completion"]


def _check_room(
    subject: Subject, prompts: Sequence[list[int]], places: Sequence[str], max_new_tokens: int,
    note: Callable[[str], None],
) -> None:  # fmt: skip
    too_long, short = [], []
    for ids, place in zip(prompts, places, strict=True):
        try:
            if room(subject.model, ids, max_new_tokens) < max_new_tokens:
                short.append(place)
        except ModelError as error:
            too_long.append((place, error))
    if too_long:
        raise ModelError(
            f"{len(too_long):,} of {len(prompts):,} prompts cannot be answered: {named([p for p, _ in too_long])}; "
            f"{too_long[0][0]}: {too_long[0][1].what}",
            do="shorten them or leave them out; none is cut",
        )
    if short:
        note(f"{len(short):,} of {len(prompts):,} prompts leave less than {max_new_tokens:,} tokens: {named(short)}")


def metric_of(metric: str | Callable[..., Any]) -> Any:
    """The name of a likelihood metric, or `judge`, as it is; else a function of (completions, columns). Raises
    RecipeError for a metric that does not exist."""
    if not isinstance(metric, str):
        return _own(metric, getattr(metric, "__name__", "metric"))
    if metric in likelihood.LIKELIHOOD or metric == JUDGE:
        return metric
    if metric in METRICS:
        return METRICS[metric]
    path, _, name = metric.rpartition(":")
    if path.endswith(".py"):
        return _own(load_function(metric), name)
    known = [*likelihood.LIKELIHOOD, *METRICS, JUDGE]
    raise RecipeError(
        f"no metric {metric!r}.{did_you_mean(metric, known)}", where="metrics",
        do=f"metrics are {', '.join(known)}, or one of your own: file.py:function",
    )  # fmt: skip


def _own(function: Callable[..., Any], name: str) -> Callable[..., list[Measured]]:
    """A metric of the user's: numbers a row, or a dict of such lists. An error in it is told with the row, found by
    calling it once more for each row alone."""

    def metric(completions: Sequence[str], columns: dict[str, list[Any]]) -> list[Measured]:
        given = {key: values for key, values in columns.items() if key not in ("completion",)}
        try:
            found = function(completions, **given)
        except Exception as error:
            raise _blamed(function, name, completions, given, error) from error
        lists = found if isinstance(found, dict) else {name: found}
        for key, values in lists.items():
            if not isinstance(values, (list, tuple, np.ndarray)) or len(values) != len(completions):
                raise RecipeError(f"metric {key!r} must give a number a row, {len(completions)} in all", where=name)
        return [mean_of(key, [math.nan if v is None else float(v) for v in values]) for key, values in lists.items()]

    return metric


def _blamed(
    function: Callable[..., Any], name: str, completions: Sequence[str], columns: dict[str, list[Any]], error: Exception
) -> RowError:
    for number, completion in enumerate(completions):
        try:
            function([completion], **{key: [values[number]] for key, values in columns.items()})
        except Exception as alone:
            return RowError(f"metric {name}: {type(alone).__name__}: {alone}", where=columns["place"][number])
    return RowError(f"metric {name}: {type(error).__name__}: {error}", do="no row alone makes it fail")


def _check_slices(slices: Sequence[str], columns: dict[str, list[Any]]) -> None:
    for name in slices:
        if name not in columns:
            raise RecipeError(
                f"no column {name!r}.{did_you_mean(name, columns)}", where="slices", do=", ".join(columns)
            )


def sliced(
    name: str, columns: dict[str, list[Any]], measured: Sequence[Measured], seed: int
) -> dict[str, dict[str, Interval]]:
    """The figures over the rows of each value of a column, where there are enough."""
    values = [str(value) for value in columns[name]]
    found = {}
    for value in sorted(set(values)):
        rows = np.array([one == value for one in values])
        if rows.sum() >= FEWEST:
            found[value] = {one.name: one.interval(seed, rows) for one in measured}
    return found


def _counting(name: str, of: int, done: Callable[[str, int, int], None]) -> Callable[[int], None]:
    so_far = 0

    def count(rows: int) -> None:
        nonlocal so_far
        so_far += rows
        done(name, min(so_far, of), of)

    return count


def _name(metric: str | Callable[..., Any]) -> str:
    return metric if isinstance(metric, str) else getattr(metric, "__name__", "metric")


def _label(data: str | DataPart | Sequence[DataPart] | Sequence[Example]) -> str:
    if isinstance(data, str):
        return data
    if isinstance(data, DataPart):
        return data.path
    return ", ".join(part.path for part in data if isinstance(part, DataPart)) or "held-out rows"
