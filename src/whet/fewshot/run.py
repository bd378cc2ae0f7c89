"""`fewshot`: zero-shot, in context and tuned on k rows a label, over seeds, on the same test rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from whet.errors import RecipeError, did_you_mean
from whet.evaluate.calibrate import log_shares
from whet.evaluate.measure import LEVEL, RESAMPLES, Interval
from whet.evaluate.score import Scorer
from whet.evaluate.subject import Subject, read_rows
from whet.fewshot.shots import Draw, divide, draw, labelled
from whet.fewshot.tune import fitting, settings, trial
from whet.incontext.measure import Measured, measure
from whet.incontext.rows import Labelled, without
from whet.models.load import load
from whet.recipe import DataPart, Recipe
from whet.train.start import max_length_of

IN_CONTEXT = ("zero-shot", "zero-shot calibrated", "in context", "in context calibrated")
TUNED = ("lora", "ia3", "prefix", "verbalizer")
ALL = "all rows"
EPOCHS_OF_ALL = 2
STOP_OF_ALL = 100
"""At most so many of all rows decide when to stop."""
FIGURES = ("accuracy", "macro_f1")


@dataclass(frozen=True)
class Cell:
    """A way with k rows a label (None: not of few rows). `logps_SRL` [seeds, rows, labels], up to what is the same for
    all labels of a row; `shots` rows before a prompt on average, `steps` taken on average."""

    way: str
    k: int | None
    logps_SRL: np.ndarray
    seconds: float
    shots: float = 0.0
    steps: float = 0.0

    def interval(self, figure: str, answers_R: np.ndarray, seed: int = 0) -> Interval:
        """Mean over seeds, and the 95 % percentile interval of a bootstrap over seeds and test rows together."""
        seeds, rows, labels = self.logps_SRL.shape
        chosen_SR = self.logps_SRL.argmax(2)
        cells_SRC = _cells(chosen_SR, answers_R, labels)
        random = np.random.default_rng(seed)
        counts_BR = random.multinomial(rows, np.full(rows, 1 / rows), RESAMPLES).astype(float)
        drawn_BS = random.integers(0, seeds, (RESAMPLES, seeds))
        by_seed_SB = np.array([_figures(figure, counts_BR @ cells_RC, labels) for cells_RC in cells_SRC])
        values_B = np.take_along_axis(by_seed_SB.T, drawn_BS, 1).mean(1)
        low, high = np.quantile(values_B, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        whole = float(np.mean([_figures(figure, cells_RC.sum(0)[None], labels)[0] for cells_RC in cells_SRC]))
        return Interval(whole, float(low), float(high))


@dataclass(frozen=True)
class Fewshot:
    """What came of it. `answers_R` [rows] are the right labels' numbers; `commonest` the share of the commonest."""

    model: str
    data: str
    labels: list[str]
    places: list[str]
    answers_R: np.ndarray
    cells: list[Cell]
    k: list[int]
    seeds: int
    seconds: float
    notes: list[str] = field(default_factory=list)

    @property
    def commonest(self) -> float:
        return float(np.bincount(self.answers_R).max() / len(self.answers_R))


def fewshot(
    model: str,
    data: str | DataPart,
    *,
    k: Sequence[int] = (8, 16, 32, 64),
    seeds: int = 5,
    ways: Sequence[str] = (*IN_CONTEXT, *TUNED),
    test: int | str | DataPart = 200,
    all_rows: bool = False,
    verbalizers: dict[str, str] | None = None,
    steps: int = 60,
    batch_size: int = 8,
    seed: int = 0,
    done: Callable[[str, int, int], None] = lambda what, trials, of: None,
) -> Fewshot:
    """Measure what k labelled rows a label are worth.

    `test` is how many rows of `data` are kept for the test, or a file. `ways` are names of IN_CONTEXT and TUNED.
    `all_rows` adds full fine-tuning on every row that is no test row. Every seed draws its own rows and their order.
    Raises RecipeError and RowError for what cannot be measured.
    """
    begin = time.perf_counter()
    _check(k, ways)
    recipe = settings({"name": model}, "lora", 10**9, steps, batch_size, seed)
    loaded = load(recipe.model)
    subject = Subject.of(loaded)
    max_length, parameters = max_length_of(recipe, loaded.model.config), loaded.model.num_parameters()
    pool, tested, left_out = _rows(data, test, verbalizers or {}, subject, max_length - _VIRTUAL, seed)
    draws = {(size, number): draw(pool, size, seed + number) for size in k for number in range(seeds)}
    plan = _plan(ways, k, all_rows)
    total = sum(1 if of is None and way != ALL else seeds for way, of in plan)
    cells, finished = [], 0

    def tick(what: str) -> None:
        nonlocal finished
        finished += 1
        done(what, finished, total)

    asking = _Asking(Scorer(subject.model, len(subject.tokenizer)), subject, tested, max_length)
    for way, size in plan:
        if way in IN_CONTEXT:
            own = [draws[size, n] for n in range(seeds)] if size is not None else [Draw([], [])]
            cells.append(_in_context(way, size, own, asking, tick))
    del asking, loaded  # each trial loads its own, and two in memory are one too many
    for way, size in plan:
        if way not in IN_CONTEXT:
            own = [draws[size, n] if size is not None else _all(pool, seed + n) for n in range(seeds)]
            cells.append(_tuned(way, size, own, tested, recipe, parameters, subject, max_length, seed, tick))
    cells.sort(key=lambda cell: plan.index((cell.way, cell.k)))
    notes = [f"{len(left_out):,} rows are too long for the model and left out: {left_out[0]}, ..."] if left_out else []
    seconds = time.perf_counter() - begin
    places = [example.place for example in tested.examples]
    label = data if isinstance(data, str) else data.path
    return Fewshot(model, label, pool.labels, places, np.array(tested.answers), cells, list(k), seeds, seconds, notes)


_VIRTUAL = 20
"""Room that prefix-tuning's virtual tokens take, kept free for all ways so that all see the same rows."""


def _check(k: Sequence[int], ways: Sequence[str]) -> None:
    for way in ways:
        if way not in (*IN_CONTEXT, *TUNED):
            known = [*IN_CONTEXT, *TUNED]
            raise RecipeError(f"no way {way!r}.{did_you_mean(way, known)}", where="ways", do=", ".join(known))
    if not k or min(k) < 1:
        raise RecipeError("k counts rows of each label", where="k", do="give numbers from 1 on")


def _plan(ways: Sequence[str], k: Sequence[int], all_rows: bool) -> list[tuple[str, int | None]]:
    plan: list[tuple[str, int | None]] = []
    for way in ways:
        plan += [(way, None)] if way.startswith("zero-shot") else [(way, size) for size in sorted(set(k))]
    return plan + ([(ALL, None)] if all_rows else [])


def _rows(
    data: str | DataPart, test: int | str | DataPart, verbalizers: dict[str, str], subject: Subject, room: int,
    seed: int,
) -> tuple[Labelled, Labelled, list[str]]:  # fmt: skip
    """(pool, test rows, places of rows that are too long)."""
    examples = read_rows(data, seed)
    if isinstance(test, int):
        rows, left_out = fitting(labelled(examples, verbalizers), subject.renderer, room)
        pool, tested = divide(rows, test, seed)
        return pool, tested, left_out
    others = read_rows(test, seed)
    both = labelled([*examples, *others], verbalizers)
    size = len(examples)
    pool, first = fitting(both.take(range(size)), subject.renderer, room)
    tested, second = fitting(both.take(range(size, size + len(others))), subject.renderer, room)
    return without(pool, tested.examples)[0], tested, [*first, *second]


def _all(pool: Labelled, seed: int) -> Draw:
    order = [pool.examples[int(i)] for i in np.random.default_rng(seed).permutation(len(pool.examples))]
    kept = min(STOP_OF_ALL, len(order) // 10)
    return Draw(order[kept:], order[:kept])


@dataclass
class _Asking:
    """Asks once what a way and its calibrated variant both want to know."""

    scorer: Scorer
    subject: Subject
    test: Labelled
    max_length: int
    known: dict[tuple[str, ...], tuple[Measured, float]] = field(default_factory=dict)

    def behind(self, shots: Draw) -> tuple[Measured, float]:
        """What the model makes of the test rows behind these rows, and the seconds that it took."""
        key = tuple(example.place for example in shots.rows)
        if key not in self.known:
            begin = time.perf_counter()
            found = measure(
                self.scorer, self.subject.renderer, self.test.examples, self.test.labels, shots.rows,
                calibrate=True, too_long="fewer", max_length=self.max_length,
            )  # fmt: skip
            self.known[key] = found, time.perf_counter() - begin
        return self.known[key]


def _in_context(way: str, k: int | None, draws: Sequence[Draw], asking: _Asking, tick: Callable[[str], None]) -> Cell:
    found, shots, seconds = [], 0.0, 0.0
    for each in draws:
        measured, took = asking.behind(each)
        found.append(measured.scores() if way.endswith("calibrated") else log_shares(measured.logps_RL))
        shots += float(measured.shots_R.mean()) / len(draws)
        seconds += took / len(draws)
        tick(way if k is None else f"{way}, k={k}")
    return Cell(way, k, np.array(found), seconds, shots)


def _tuned(
    way: str, k: int | None, draws: Sequence[Draw], test: Labelled, recipe: Recipe, parameters: int, subject: Subject,
    max_length: int, seed: int, tick: Callable[[str], None],
) -> Cell:  # fmt: skip
    begin, found, steps = time.perf_counter(), [], 0.0
    kind = "full" if way == ALL else way
    for number, each in enumerate(draws):
        size = recipe.train.batch_size
        limit = int(recipe.train.max_steps or 1) if k is not None else -(-EPOCHS_OF_ALL * len(each.learn) // size)
        own = settings(recipe.model.model_dump(), kind, parameters, limit, size, seed + number)
        result = trial(own, kind, each, test, subject.renderer, max_length)
        found.append(result.logps_RL)
        steps += result.steps / len(draws)
        tick(way if k is None else f"{way}, k={k}")
    return Cell(way, k, np.array(found), (time.perf_counter() - begin) / len(draws), steps=steps)


def _cells(chosen_SR: np.ndarray, answers_R: np.ndarray, labels: int) -> np.ndarray:
    """Each row's cell of the confusion matrix, as a one [seeds, rows, labels * labels]."""
    return np.asarray(np.eye(labels * labels)[answers_R[None] * labels + chosen_SR])


def _figures(figure: str, cells_BC: np.ndarray, labels: int) -> np.ndarray:
    """Accuracy or macro-F1 (over labels that are there, or were said) of confusion matrices [B, labels * labels]."""
    confusion_BLL = cells_BC.reshape(-1, labels, labels)
    right_BL = np.diagonal(confusion_BLL, axis1=1, axis2=2)
    if figure == "accuracy":
        return np.asarray(right_BL.sum(1) / confusion_BLL.sum((1, 2)))
    both_BL = confusion_BLL.sum(1) + confusion_BLL.sum(2)
    there = both_BL > 0
    f1_BL = np.where(there, 2 * right_BL / np.maximum(both_BL, 1), 0)
    return np.asarray(f1_BL.sum(1) / there.sum(1))
