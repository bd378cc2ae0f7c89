"""Kahneman-Tversky optimisation: answers that are good or bad by themselves, not in pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from whet.errors import RowError
from whet.objectives.contract import Batch, Loss, Objective, Renderer, Scores
from whet.objectives.pairs import answered
from whet.recipe import KTOPart
from whet.rows import OTHER, Example, Row, given

GOOD, BAD = "good", "bad"


def rows_of(
    examples: Sequence[Example], renderer: Renderer, part: KTOPart, progress: Callable[[int], None] | None = None
) -> list[list[Row]]:
    """One row of each example, and as its companion the answer of the next example to the same prompt: of these the
    divergence from the reference is estimated. Raises RowError for rows without a label."""
    for example in examples:
        if example.shape != "label":
            raise RowError(
                f"kto learns from a `label`, and this row has the shape {example.shape!r}",
                where=example.place,
                do="set objective.kind=dpo for `chosen` and `rejected`, or give `prompt`, `completion` and `label`",
            )
    others = [*examples[1:], *examples[:1]]
    talks = [
        (answered(example.prompt, answer), example.tools, example.place)
        for example, other in zip(examples, others, strict=True)
        for answer in (example.chosen, other.chosen)
    ]
    rendered = iter(renderer.conversations(talks, progress=progress))
    units = []
    for example in examples:
        role = GOOD if example.label else BAD
        own, other = (
            [
                Row(one.ids, one.targets, weight=example.weight, group=example.group, role=name, place=example.place)
                for one in next(rendered)
            ]
            for name in (role, OTHER)
        )
        units.append([replace(own[0], companions=(*own[1:], *other))])
    return units


def counts(rows: Sequence[Row], part: KTOPart) -> dict[str, float]:
    """Answers, each times its row's weight."""
    return {"answers": sum(row.weight for row in rows)}


def before(rows: list[Row], scores: Scores, part: KTOPart) -> list[Row]:
    """Each row with z, the same for all of the step, and without the companion that z is estimated from."""
    others = [row for unit in rows for row in unit.companions if row.role == OTHER]
    ratios = [
        float(logps.double().sum()) - float(np.asarray(row.given["reference"], np.float64).sum())
        for logps, row in zip(scores(others), others, strict=True)
    ]
    z = max(0.0, sum(ratios) / max(1, len(rows)))
    return [
        replace(_with_z(unit, z), companions=tuple(_with_z(row, z) for row in unit.companions if row.role != OTHER))
        for unit in rows
    ]


def loss(batch: Batch, part: KTOPart) -> Loss:
    """With h = log p(y|x) - log p_ref(y|x) and z = max(0, mean of h over answers to other prompts), which has no
    gradient: w_D (1 - s(beta (h - z))) of good answers, w_U (1 - s(beta (z - h))) of bad ones, the mean over answers.
    Ethayarajh et al. 2024, arXiv 2402.01306, equations 7 and 8."""
    import torch

    ratio_E = batch.by_example(batch.logps_N - batch.given["reference"], GOOD, BAD)
    ones_N = torch.ones_like(batch.logps_N)
    good_E = batch.by_example(ones_N, GOOD) > 0
    z = batch.given["z"][0]
    desired_E = part.desirable_weight * (1 - torch.sigmoid(part.beta * (ratio_E - z)))
    undesired_E = part.undesirable_weight * (1 - torch.sigmoid(part.beta * (z - ratio_E)))
    losses_E = torch.where(good_E, desired_E, undesired_E)
    total = (batch.weight_of_example() * losses_E).sum() / batch.step["answers"]
    rewards_E = part.beta * ratio_E.detach()
    good, bad = float(good_E.sum()), float((~good_E).sum())
    return Loss(
        total,
        {
            "reward_good": (float(rewards_E[good_E].sum()), good),
            "reward_bad": (float(rewards_E[~good_E].sum()), bad),
            "divergence": (float(z) * (good + bad), good + bad),
            "good_nats": (
                -float(batch.by_example(batch.logps_N.detach(), GOOD).sum()),
                float(batch.by_example(ones_N, GOOD).sum()),
            ),
        },
    )


def check(rows: Sequence[Row], part: KTOPart) -> None:
    """Raises RowError where all answers have the same label, or there is but one."""
    if len({row.role for row in rows}) < 2:
        what = "good" if rows and rows[0].role == GOOD else "bad"
        raise RowError(
            f"all {len(rows):,} answers are {what}: kto learns from the difference of good and bad ones",
            where=rows[0].place if rows else None,
            do="add answers of the other label; good ones alone are for objective.kind=sft",
        )


def _with_z(row: Row, z: float) -> Row:
    return given(row, z=np.full(row.target_count, z, np.float32))


KTO = Objective(rows_of, counts, loss, reference=True, before=before, check=check)
