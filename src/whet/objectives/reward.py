"""Reward modelling: a number for an answer, learnt from which of two people prefer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from whet.errors import RowError
from whet.objectives import pairs
from whet.objectives.contract import Batch, Loss, Objective, Renderer
from whet.recipe import RewardPart
from whet.rows import Example, Row, given, read_at_end


def rows_of(
    examples: Sequence[Example], renderer: Renderer, part: RewardPart, progress: Callable[[int], None] | None = None
) -> list[list[Row]]:
    """The pair, each answer read to its end: where the token after it would be predicted, the reward is. A column
    `margin` says how much better the chosen one is."""
    units = pairs.rows_of(examples, renderer, part, progress)
    return [[_read_to_the_end(unit, _margin(example))] for [unit], example in zip(units, examples, strict=True)]


def loss(batch: Batch, part: RewardPart) -> Loss:
    """-log s(r(c) - r(r) - m) + k (r(c) + r(r))^2, the mean over pairs: Bradley-Terry, with a margin m as Touvron et
    al. 2023 (arXiv 2307.09288, equation 2) have it and rewards kept around 0 as Eisenstein et al. 2023 (arXiv
    2312.09244) do. The rewards are in the place of log-probabilities."""
    from torch.nn.functional import logsigmoid

    chosen_E = batch.by_example(batch.logps_N, pairs.CHOSEN)
    rejected_E = batch.by_example(batch.logps_N, pairs.REJECTED)
    margin_E = batch.by_example(batch.given["margin"], pairs.CHOSEN)
    losses_E = -logsigmoid(chosen_E - rejected_E - margin_E)
    if part.center_rewards_coefficient:
        losses_E = losses_E + part.center_rewards_coefficient * (chosen_E + rejected_E) ** 2
    metrics = pairs.compared(batch, chosen_E.detach(), rejected_E.detach())
    del metrics["chosen_nats"]
    return Loss(pairs.mean(losses_E, batch), metrics)


def _read_to_the_end(unit: Row, margin: float) -> Row:
    rows = []
    for row in (unit, *unit.companions):
        ids, targets = read_at_end(row.ids[: _end(row)])
        rows.append(given(replace(row, ids=ids, targets=targets, companions=()), margin=np.full(1, margin, np.float32)))
    return replace(rows[0], companions=tuple(rows[1:]))


def _end(row: Row) -> int:
    """Through the answer's last token."""
    learnt = np.flatnonzero(row.targets)
    return int(learnt[-1]) + 1 if len(learnt) else 0


def _margin(example: Example) -> float:
    value = example.extra.get("margin", 0.0)
    try:
        margin = float(value)
    except (TypeError, ValueError):
        margin = float("nan")
    if not np.isfinite(margin):
        raise RowError(f"`margin` is {value!r}, not a number", where=example.place)
    return margin


REWARD = Objective(rows_of, pairs.counts, loss, reads="rewards")
