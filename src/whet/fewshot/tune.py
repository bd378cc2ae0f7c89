"""One trial: a method tuned on a few rows, stopped by a few of them, and what it makes of the test rows.

`verbalizer` learns to tell the labels apart (prompt-based tuning; Schick and Schütze 2021, arXiv 2001.07676; Gao et
al. 2021, arXiv 2012.15723): the loss of a row is -log of its label's share among the labels' probabilities,

    -log( p(label | prompt) / sum over labels of p(that label | prompt) ).

The other ways make the label likely among all texts, as supervised fine-tuning does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from whet.evaluate.calibrate import log_shares
from whet.fewshot.shots import Draw
from whet.incontext.measure import label_rows
from whet.incontext.rows import Labelled
from whet.models.language_model import by_row
from whet.recipe import Recipe, check_recipe
from whet.rows import Example, Row
from whet.tokens.pack import pack_rows
from whet.tokens.template import Renderer
from whet.train.engine import Engine
from whet.train.preflight import prepare
from whet.train.schedule import Schedule
from whet.train.start import Rows, start

WAYS: dict[str, tuple[dict[str, Any], float]] = {
    "lora": ({"kind": "lora", "r": 8}, 3e-4),
    "ia3": ({"kind": "ia3"}, 3e-3),
    "prefix": ({"kind": "prefix"}, 3e-3),
    "verbalizer": ({"kind": "lora", "r": 8}, 3e-4),
    "full": ({"kind": "full"}, 5e-5),
}
"""Method, and the learning rate that is usual at a billion parameters; smaller models want sqrt(1e9 / parameters) of
that (as `whet advise` reckons)."""
PATIENCE = 4
AT_ONCE = 4
"""Rows with all their labels in one pack of `verbalizer`."""


@dataclass(frozen=True)
class Trial:
    """Log-probabilities of the labels on test rows [rows, labels], the step that was best, and how many were taken."""

    logps_RL: np.ndarray
    best_step: int
    steps: int


def fitting(rows: Labelled, renderer: Renderer, max_length: int) -> tuple[Labelled, list[str]]:
    """The rows that are whole with any label, and the places of the others."""
    made, size = label_rows(rows.examples, rows.labels, renderer), len(rows.labels)
    fits = [max(map(len, made[i * size : (i + 1) * size])) <= max_length for i in range(len(rows.examples))]
    left_out = [example.place for example, fit in zip(rows.examples, fits, strict=True) if not fit]
    return rows.take([i for i, fit in enumerate(fits) if fit]), left_out


def settings(model: dict[str, Any], way: str, parameters: int, steps: int, batch_size: int, seed: int) -> Recipe:
    """The recipe of a trial."""
    method, usual = WAYS[way]
    rate = float(f"{usual * (1e9 / max(parameters, 1)) ** 0.5:.1g}")
    train = {"learning_rate": rate, "max_steps": steps, "batch_size": batch_size, "seed": seed,
             "lr_scheduler_type": "constant", "warmup_steps": 0.05}  # fmt: skip
    return check_recipe({"model": model, "data": "shots", "method": method, "train": train}, where="fewshot")


def trial(
    recipe: Recipe, way: str, draw: Draw, test: Labelled, renderer: Renderer, max_length: int,
    done: Callable[[int, int], None] = lambda step, of: None,
) -> Trial:  # fmt: skip
    """Tune on the draw and score the test rows. Training ends when the stop rows have not been likelier for PATIENCE
    looks, and goes back to its best state; without stop rows it goes to the end."""
    prepared = prepare(recipe, renderer, draw.learn, draw.stop, max_length)
    rows = Rows(prepared, draw.learn, draw.stop, renderer, max_length)
    engine = start(recipe, rows, Accelerator(), recipe.train.seed).engine
    labels = test.labels
    learn = label_rows(draw.learn, labels, renderer) if way == "verbalizer" else rows.prepared.train
    schedule = Schedule(len(draw.learn), recipe.train)
    every = max(1, schedule.total_steps // 20)
    best, best_step, state, step = np.inf, 0, None, 0
    for step in range(1, schedule.total_steps + 1):
        engine.language_model.train()
        chosen = schedule.rows_of(step - 1)
        if way == "verbalizer":
            _tell_apart(engine, learn, chosen, _answers(draw.learn, labels))
        else:
            engine.forward_backward([learn[i] for i in chosen])
        engine.optim_step(schedule.learning_rate(step - 1))
        done(step, schedule.total_steps)
        if draw.stop and (step % every == 0 or step == schedule.total_steps):
            loss = _loss(scored(engine, draw.stop, labels, renderer), _answers(draw.stop, labels))
            if loss < best:
                best, best_step, state = loss, step, engine.state()
            elif step - best_step >= PATIENCE * every:
                break
    if state is not None:
        engine.load_state(state)
    return Trial(scored(engine, test.examples, labels, renderer), best_step or step, step)


def scored(engine: Engine, examples: Sequence[Example], labels: Sequence[str], renderer: Renderer) -> np.ndarray:
    """log p of each label behind each prompt, its tokens and the end of the turn summed [rows, labels]."""
    sums = [float(logps.double().sum()) for logps in engine.scores(label_rows(examples, labels, renderer))]
    return np.array(sums).reshape(len(examples), len(labels))


def _answers(examples: Sequence[Example], labels: Sequence[str]) -> list[int]:
    return [list(labels).index(str(example.messages[-1]["content"])) for example in examples]


def _loss(logps_RL: np.ndarray, answers: Sequence[int]) -> float:
    """Mean -log share of the right label."""
    return float(-log_shares(logps_RL)[np.arange(len(answers)), list(answers)].mean())


def _tell_apart(engine: Engine, rows: Sequence[Row], chosen: Sequence[int], answers: Sequence[int]) -> None:
    """Gradients of the mean -log share of the right labels of these rows; `rows` has all labels of row 0, of 1, ..."""
    size = len(rows) // len(answers)
    for at in range(0, len(chosen), AT_ONCE):
        some = chosen[at : at + AT_ONCE]
        asked = [rows[i * size + label] for i in some for label in range(size)]
        shares = engine.language_model.shares
        (pack,) = pack_rows(asked, len(asked) * max(map(len, asked)), share=shares, padded=not shares)
        with engine.language_model.running(engine.compute_dtype):
            logps_N = engine.forward(pack.to(engine.device))
        sums: list[torch.Tensor] = [logps_N[:0].sum()] * len(asked)
        for index, logps in zip(pack.rows, by_row(logps_N, [pack]), strict=True):
            sums[index] = logps.float().sum()
        right = torch.tensor([answers[i] for i in some], device=engine.device)
        loss = torch.nn.functional.cross_entropy(torch.stack(sums).reshape(len(some), size), right, reduction="sum")
        engine.accelerator.backward(loss / len(chosen))
