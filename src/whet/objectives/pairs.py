"""Preference pairs: the rows of `chosen` and `rejected`, and what is reported of them whatever the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from whet.errors import RowError
from whet.objectives.contract import Batch, Renderer
from whet.recipe import Part
from whet.rows import Example, Message, Row

if TYPE_CHECKING:
    import torch

CHOSEN, REJECTED = "chosen", "rejected"


def rows_of(
    examples: Sequence[Example], renderer: Renderer, part: Part, progress: Callable[[int], None] | None = None
) -> list[list[Row]]:
    """One row of each pair: the chosen answer, and the rejected one as its companion. They begin with the same prompt,
    which a pack stores once. Raises RowError for rows that are no pairs."""
    for example in examples:
        if example.shape != "preference":
            raise RowError(
                f"{part.kind} learns from `chosen` and `rejected`, and this row has the shape {example.shape!r}",  # type: ignore[attr-defined]
                where=example.place,
                do="set objective.kind=sft (or kto, for a `label`), or give rows of `prompt`, `chosen` and `rejected`",
            )
    talks = [
        (answered(example.prompt, answer), example.tools, example.place)
        for example in examples
        for answer in (example.chosen, example.rejected)
    ]
    rendered = iter(renderer.conversations(talks, progress=progress))
    units = []
    for example in examples:
        made = [
            Row(one.ids, one.targets, weight=example.weight, group=example.group, role=role, place=example.place)
            for role in (CHOSEN, REJECTED)
            for one in next(rendered)
        ]
        units.append([replace(made[0], companions=tuple(made[1:]))])
    return units


def answered(prompt: Sequence[Message], answer: Sequence[Message]) -> list[Message]:
    """A conversation of which the answer alone is learnt."""
    return [turn | {"weight": 0} if turn["role"] == "assistant" else turn for turn in prompt] + list(answer)


def counts(rows: Sequence[Row], part: Part) -> dict[str, float]:
    """Pairs, and targets of chosen, each times the pair's weight."""
    chosen = [row for pair in rows for row in (pair, *pair.companions) if row.role == CHOSEN]
    return {
        "pairs": sum(pair.weight for pair in rows),
        "chosen_targets": sum(row.weight * row.target_count for row in chosen),
    }


def mean(losses_E: torch.Tensor, batch: Batch) -> torch.Tensor:
    """The weighted mean over the step's pairs."""
    return (batch.weight_of_example() * losses_E).sum() / batch.step["pairs"]


def chosen_nll(batch: Batch) -> torch.Tensor:
    """Negative log-likelihood of the chosen answers: the weighted mean over their targets in the step."""
    nll_E = -batch.by_example(batch.logps_N, CHOSEN)
    return (batch.weight_of_example() * nll_E).sum() / batch.step["chosen_targets"]


def lengths(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Targets [E] of chosen and of rejected."""
    ones_N = batch.logps_N.detach().new_ones(len(batch.logps_N))
    return batch.by_example(ones_N, CHOSEN), batch.by_example(ones_N, REJECTED)


def compared(batch: Batch, chosen_E: torch.Tensor, rejected_E: torch.Tensor) -> dict[str, tuple[float, float]]:
    """Of the rewards that the loss compares: how often chosen is the higher (`accuracy`), both means and their
    difference; and of the chosen answers the nats a target, whose exponential is their perplexity."""
    import torch

    with torch.no_grad():
        pairs = float(len(chosen_E))
        nats = -batch.by_example(batch.logps_N, CHOSEN).sum()
        higher = (chosen_E > rejected_E).float() + 0.5 * (chosen_E == rejected_E).float()
        return {
            "accuracy": (float(higher.sum()), pairs),
            "margin": (float((chosen_E - rejected_E).sum()), pairs),
            "reward_chosen": (float(chosen_E.sum()), pairs),
            "reward_rejected": (float(rejected_E.sum()), pairs),
            "chosen_nats": (float(nats), float(lengths(batch)[0].sum())),
        }
