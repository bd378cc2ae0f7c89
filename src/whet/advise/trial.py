"""One trial of a pilot: a way to adapt the model, one seed, and what it makes of the held-out rows.

Rows, and which of them are held out, are those of the recipe in every trial. The trial's seed decides the order of
training rows, the method's first weights and the choice of demonstrations.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import set_seed

from whet.data import read, split
from whet.objectives import OBJECTIVES
from whet.recipe import Recipe
from whet.rows import Example, Row
from whet.train.engine import Engine
from whet.train.run import peak_memory, target_bytes
from whet.train.schedule import Schedule
from whet.train.start import Rows, open_rows, start

MOST_HELD_OUT = 200
"""Held-out rows that are scored; more make intervals narrower and every trial slower."""
MOST_LABELS = 10


@dataclass(frozen=True)
class Result:
    """What a trial measured. Of each held-out row: the sum of its targets' log-probabilities (nats), how many targets,
    their bytes; and, where completions are labels, whether the likeliest label was the row's own. `seconds` are of
    training steps; `shots` the demonstrations a row had on average; `training_loss` the mean of the last quarter."""

    logps: list[float]
    targets: list[int]
    bytes: list[int]
    hits: list[int]
    commonest: float | None
    """The share of the commonest label."""
    trained: int
    seconds: float
    peak_bytes: int
    shots: float = 0.0
    training_loss: float | None = None

    @property
    def loss(self) -> float:
        """Nats a target."""
        return -sum(self.logps) / sum(self.targets)


def run_trial(recipe: Recipe, seed: int, steps: int, shots: int) -> dict[str, Any]:
    """Train `steps` steps as the recipe's method says, or none; put up to `shots` demonstrations before each held-out
    row; measure. Returns a Result as a dictionary."""
    set_seed(seed)
    engine, rows = open_engine(recipe, seed)
    seconds, losses = _train(engine, rows.prepared.train, recipe, seed, steps)
    scored, labels = held_out(rows), labels_of(rows)
    asked, mean_shots = _examples(rows, scored), 0.0
    answers = [_answer(example) for example in asked]
    if shots:
        demonstrations = _demonstrations(recipe, shots, seed)
        scored, asked, mean_shots = with_demonstrations(scored, asked, demonstrations, labels, rows, recipe)
    logps = [float(each.sum()) for each in engine.scores(scored)]
    hits = _hits(engine, asked, answers, labels, rows, recipe) if labels else []
    last = losses[-max(1, len(losses) // 4) :]
    return asdict(
        Result(
            logps=logps,
            targets=[row.target_count for row in scored],
            bytes=target_bytes(scored, rows.renderer.tokenizer),
            hits=hits,
            commonest=max(map(answers.count, answers)) / len(answers) if hits else None,
            trained=sum(p.numel() for p in engine.trainable.values()) if steps else 0,
            seconds=seconds,
            peak_bytes=peak_memory(engine.device),
            shots=mean_shots,
            training_loss=sum(last) / len(last) if last else None,
        )
    )


def open_engine(recipe: Recipe, seed: int) -> tuple[Engine, Rows]:
    """The model with the recipe's method on it, as training begins with it, and the rows. LoRA and its like answer as
    the base does until they are trained."""
    rows = open_rows(recipe)
    return start(recipe, rows, Accelerator(), seed).engine, rows


def held_out(rows: Rows) -> list[Row]:
    """The rows that trials are measured on: the same in all of them."""
    kept = rows.prepared.validation
    chosen = np.sort(np.random.default_rng(0).permutation(len(kept))[:MOST_HELD_OUT])
    return [kept[int(i)] for i in chosen]


def labels_of(rows: Rows) -> list[str]:
    """The answers there are, where every held-out row is answered by one of a few: at most MOST_LABELS, each twice on
    average. Else none."""
    answers = [_answer(example) for example in rows.held_out]
    known = sorted({answer for answer in answers if answer is not None})
    few = 2 <= len(known) <= MOST_LABELS and 2 * len(known) <= len(answers)
    return known if few and None not in answers else []


def with_demonstrations(
    scored: Sequence[Row],
    asked: Sequence[Example],
    demonstrations: Sequence[Example],
    labels: Sequence[str],
    rows: Rows,
    recipe: Recipe,
) -> tuple[list[Row], list[Example], float]:
    """Each row, and the example that it is of, behind as many demonstrations as leave it whole with any of the labels
    for its answer; and how many that were on average."""
    longer_rows, longer_examples, used = [], [], 0
    for row, example in zip(scored, asked, strict=True):
        for count in range(len(demonstrations), 0, -1):
            longer = _after(example, demonstrations[:count])
            made = [_one(each, rows, recipe) for each in (longer, *(_answered(longer, label) for label in labels))]
            if made[0] is not None and all(one is not None and len(one) <= rows.max_length for one in made):
                row, example, used = made[0], longer, used + count
                break
        longer_rows.append(row)
        longer_examples.append(example)
    return longer_rows, longer_examples, used / max(1, len(scored))


def _train(engine: Engine, rows: Sequence[Row], recipe: Recipe, seed: int, steps: int) -> tuple[float, list[float]]:
    """Seconds and losses of the steps."""
    part = recipe.train.model_copy(update={"seed": seed, "max_steps": max(1, steps)})
    schedule, losses, began = Schedule(len(rows), part), [], time.perf_counter()
    engine.language_model.train()
    for step in range(steps):
        losses.append(engine.forward_backward([rows[i] for i in schedule.rows_of(step)]).loss)
        engine.optim_step(schedule.learning_rate(step))
    return time.perf_counter() - began, losses


def _hits(
    engine: Engine,
    asked: Sequence[Example],
    answers: Sequence[str | None],
    labels: list[str],
    rows: Rows,
    recipe: Recipe,
) -> list[int]:
    """Whether the label with the highest log-probability (its tokens and the end of the turn, not divided by their
    number) is the row's own answer. Rows of one prompt lie side by side in the trie."""
    made = [_one(_answered(example, label), rows, recipe) for example in asked for label in labels]
    whole = [row if row is not None and len(row) <= rows.max_length else None for row in made]
    scores = iter(engine.scores([row for row in whole if row is not None]))
    sums = [float(next(scores).sum()) if row is not None else -float("inf") for row in whole]
    best = np.array(sums).reshape(len(asked), len(labels)).argmax(1)
    return [int(labels[b] == answer) for b, answer in zip(best, answers, strict=True)]


def _examples(rows: Rows, scored: Sequence[Row]) -> list[Example]:
    """The examples that rows are of."""
    by_place = {example.place: example for example in rows.held_out}
    return [by_place[row.place] for row in scored]


def _demonstrations(recipe: Recipe, shots: int, seed: int) -> list[Example]:
    """Training examples chosen at random, of those that are conversations."""
    train, _ = split(read(recipe.data, recipe.objective.kind, recipe.train.seed), _share(recipe), recipe.train.seed)
    talks = [example for example in train if example.shape == "conversation"]
    order = np.random.default_rng(seed).permutation(len(talks))[:shots]
    return [talks[int(i)] for i in order]


def _share(recipe: Recipe) -> float:
    return recipe.validation if isinstance(recipe.validation, float) else 0.0


def _one(example: Example, rows: Rows, recipe: Recipe) -> Row | None:
    """The last row of an example, or None where nothing in it is learnt."""
    made = OBJECTIVES[recipe.objective.kind].rows(example, rows.renderer, recipe.objective)
    return next((row for row in reversed(made) if row.target_count), None)


def _after(example: Example, demonstrations: Sequence[Example]) -> Example:
    """The example's conversation behind the demonstrations', nothing of which is learnt; a system prompt is first."""
    system = [m for m in example.messages[:1] if m["role"] == "system"]
    before = [
        {**m, "weight": 0} if m["role"] == "assistant" else m
        for each in demonstrations
        for m in each.messages
        if m["role"] != "system"
    ]
    return replace(example, messages=[*system, *before, *example.messages[len(system) :]])


def _answered(example: Example, label: str) -> Example:
    return replace(example, messages=[*example.messages[:-1], {**example.messages[-1], "content": label}])


def _answer(example: Example) -> str | None:
    """What the assistant says, in a conversation where it speaks once and last."""
    turns = [message for message in example.messages if message["role"] == "assistant"]
    ends = len(turns) == 1 and example.messages[-1] is turns[0] and isinstance(turns[0].get("content"), str)
    return str(turns[0]["content"]) if ends else None
