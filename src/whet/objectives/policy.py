"""Learning from answers that the model gave itself, by what they are worth: GRPO and its repairs, RLOO, REINFORCE++
and PPO.

A row is an answer after its prompt. It is given, a number a target: "sampled", its log-probability when it was drawn;
"advantage"; "reference" where the divergence from it is in the loss; for PPO "return" and "value" too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from whet.errors import RowError
from whet.objectives.contract import Batch, Loss, Objective, Renderer
from whet.recipe import GRPOPart, PolicyPart, PPOPart
from whet.rows import Example, Row, read_at_end

if TYPE_CHECKING:
    import torch


def rows_of(
    examples: Sequence[Example], renderer: Renderer, part: PolicyPart, progress: Callable[[int], None] | None = None
) -> list[list[Row]]:
    """The prompt of each example, with the token after it as its one target. Raises RowError where there is none."""
    units = []
    for example in examples:
        if example.shape != "prompt":
            raise RowError(
                f"{part.kind} learns from prompts, and this row has the shape {example.shape!r}", where=example.place
            )
        ids, targets = read_at_end(np.array(renderer.prompt(example.prompt, example.tools, example.place), np.int32))
        units.append([Row(ids, targets, weight=example.weight, group=example.group, place=example.place)])
    return units


def counts(rows: Sequence[Row], part: PolicyPart) -> dict[str, float]:
    """What the recipe's mean is over."""
    answers = sum(row.weight for row in rows)
    if _mean(part) == "answer":
        return {"answers": answers}
    if _mean(part) == "length":
        return {"length": answers * part.max_new_tokens}
    return {"tokens": sum(row.weight * row.target_count for row in rows)}


def loss(batch: Batch, part: PolicyPart) -> Loss:
    """-min(r A, clip(r, 1 - e, 1 + e') A), and beta times the divergence from the reference.

    r = p / p_sampled of a token (Schulman et al. 2017, arXiv 1707.06347, equation 7), or `importance: sequence`, the
    geometric mean of the answer's (Zheng et al. 2025, GSPO, arXiv 2507.18071, equation 7). e' = `epsilon_high` where
    it is set (Yu et al. 2025, DAPO, arXiv 2503.14476, equation 10). The divergence is Schulman's k3 = exp(d) - d - 1
    with d = log p_ref - log p (arXiv 2402.03300, equation 4). `mean` says over what: "answer", first over the tokens of
    each answer (GRPO); "token", over all tokens (DAPO, equation 12); "length", over answers times the longest length
    (Dr. GRPO, arXiv 2503.20783).
    """
    import torch

    logratio_N = batch.logps_N - batch.given["sampled"]
    if isinstance(part, GRPOPart) and part.importance == "sequence":
        logratio_N = (batch.by_row(logratio_N) / _lengths(batch))[batch.row_of_N]
    advantage_N = batch.given["advantage"]
    ratio_N = logratio_N.exp()
    high = part.epsilon if part.epsilon_high is None else part.epsilon_high
    clipped_N = ratio_N.clamp(1 - part.epsilon, 1 + high)
    losses_N = -torch.minimum(ratio_N * advantage_N, clipped_N * advantage_N)
    metrics = _signs(batch, ratio_N, clipped_N, advantage_N)
    if "reference" in batch.given:
        apart_N = divergence(batch.logps_N, batch.given["reference"])
        metrics["kl"] = (float(apart_N.detach().sum()), float(len(apart_N)))
        if part.kl_in == "loss":
            losses_N = losses_N + part.beta * apart_N
    return Loss(_average(losses_N, batch, part), metrics)


def ppo(batch: Batch, part: PPOPart) -> Loss:
    """The loss above, the mean over tokens, and `vf_coef` times half the squared error of the values, of which the
    worse counts: V as it is, or V kept within `cliprange_value` of what it was when the answer was drawn. Schulman et
    al. 2017, arXiv 1707.06347; the clipping of values as in Ziegler et al. 2019, arXiv 1909.08593."""
    import torch

    assert batch.values_N is not None, "an objective that reads values is given them"
    policy = loss(batch, part)
    before_N, return_N = batch.given["value"], batch.given["return"]
    near_N = before_N + (batch.values_N - before_N).clamp(-part.cliprange_value, part.cliprange_value)
    errors_N = torch.maximum((batch.values_N - return_N) ** 2, (near_N - return_N) ** 2)
    metrics = {**policy.metrics, "value_error": (float(errors_N.detach().sum()), float(len(errors_N)))}
    return Loss(policy.total + part.vf_coef * 0.5 * _average(errors_N, batch, part), metrics)


def divergence(logps_N: torch.Tensor, reference_N: torch.Tensor) -> torch.Tensor:
    """Schulman's k3 estimate [N] of KL(p || reference) from tokens drawn from p: unbiased, never negative."""
    d_N = reference_N - logps_N
    return d_N.exp() - d_N - 1


def _mean(part: PolicyPart) -> str:
    return part.mean if isinstance(part, GRPOPart) else "token"


def _lengths(batch: Batch) -> torch.Tensor:
    return batch.by_row(batch.logps_N.detach().new_ones(len(batch.logps_N)))


def _average(numbers_N: torch.Tensor, batch: Batch, part: PolicyPart) -> torch.Tensor:
    weighted_N = numbers_N * batch.weights_R[batch.row_of_N]
    if _mean(part) == "answer":
        return (batch.by_row(weighted_N) / _lengths(batch)).sum() / batch.step["answers"]
    return weighted_N.sum() / batch.step["length" if _mean(part) == "length" else "tokens"]


def _signs(
    batch: Batch, ratio_N: torch.Tensor, clipped_N: torch.Tensor, advantage_N: torch.Tensor
) -> dict[str, tuple[float, float]]:
    """`entropy` of a token in nats, estimated as the mean of -log p over tokens that were drawn; the share of tokens
    whose ratio is `clipped` so that they have no gradient; `drift`, the mean of |log p - log p_sampled|: before the
    first update it is what sampler and trainer disagree by."""
    import torch

    with torch.no_grad():
        total = float(len(ratio_N))
        held_N = ratio_N * advantage_N > clipped_N * advantage_N
        return {
            "entropy": (-float(batch.logps_N.sum()), total),
            "clipped": (float(held_N.sum()), total),
            "drift": (float((batch.logps_N - batch.given["sampled"]).abs().sum()), total),
        }


GRPO = Objective(rows_of, counts, loss)
PPO = Objective(rows_of, counts, ppo, reads="values")
