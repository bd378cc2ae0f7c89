"""When: against transformers' own learning rates, and by counting rows."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import TrainingArguments, get_scheduler

from whet.recipe import TrainPart
from whet.train.schedule import Schedule


def schedule(row_count: int = 30, **settings) -> Schedule:
    return Schedule(row_count, TrainPart(**settings))


@pytest.mark.parametrize("warmup_steps", [0, 1, 7, 0.03, 0.5, 0.999, 40, 60])
@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
def test_learning_rates_equal_transformers(kind: str, warmup_steps: float, tmp_path) -> None:
    plan = schedule(lr_scheduler_type=kind, warmup_steps=warmup_steps, max_steps=40, learning_rate=3e-4)
    arguments = TrainingArguments(str(tmp_path), warmup_steps=warmup_steps, use_cpu=True)
    assert plan.warmup_steps == arguments.get_warmup_steps(40)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-4)
    name = "constant_with_warmup" if kind == "constant" else kind
    theirs = get_scheduler(name, optimizer, num_warmup_steps=plan.warmup_steps, num_training_steps=40)
    for step in range(40):
        assert plan.learning_rate(step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-12, abs=1e-20), step
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("row_count", "batch_size"), [(30, 7), (30, 10), (3, 8), (1, 1), (64, 1)])
def test_each_epoch_takes_each_row_once(row_count: int, batch_size: int, shuffle: bool) -> None:
    plan = schedule(row_count, batch_size=batch_size, epochs=3, shuffle=shuffle)
    assert plan.total_steps == 3 * plan.steps_per_epoch == 3 * math.ceil(row_count / batch_size)
    orders = []
    for epoch in range(3):
        steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
        batches = [plan.rows_of(step) for step in steps]
        assert all(len(batch) == batch_size for batch in batches[:-1])
        orders.append([index for batch in batches for index in batch])
        assert sorted(orders[-1]) == list(range(row_count))
    if row_count > 10:
        assert (orders[0] != orders[1] != orders[2]) == shuffle
        assert (orders[0] == list(range(row_count))) == (not shuffle)


def test_the_order_follows_from_the_seed_alone() -> None:
    one, again, other = schedule(seed=5), schedule(seed=5), schedule(seed=6)
    assert [one.rows_of(step) for step in range(4)] == [again.rows_of(step) for step in range(4)]
    assert [one.rows_of(step) for step in range(4)] != [other.rows_of(step) for step in range(4)]


@pytest.mark.parametrize(("epochs", "steps"), [(1, 4), (0.5, 2), (0.1, 1), (2.5, 10)])
def test_epochs_may_be_parts(epochs: float, steps: int) -> None:
    plan = schedule(30, batch_size=8, epochs=epochs)
    assert plan.total_steps == steps
    assert plan.epoch_of(2) == 0.5


def test_max_steps_overrides_epochs() -> None:
    assert schedule(30, batch_size=8, epochs=1, max_steps=99).total_steps == 99


def test_evaluations_come_ten_times_a_run_or_as_asked() -> None:
    assert schedule(max_steps=100).evaluate_every == 10
    assert schedule(max_steps=15).evaluate_every == 2
    assert schedule(max_steps=5).evaluate_every == 1
    assert schedule(max_steps=100, evaluate_every=33).evaluate_every == 33
