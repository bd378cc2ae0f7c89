"""Advantages and the losses of a policy against numbers worked out on paper."""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
import pytest
import torch

from whet.objectives import OBJECTIVES, Batch, Loss
from whet.objectives.advantages import gae, leave_one_out, of_group, over_batch, whitened
from whet.recipe import GRPOPart, PPOPart, ReinforcePart
from whet.rows import Row

GRADER = {"type": "length", "max": 3}


def test_gae_of_three_tokens() -> None:
    """gamma 1/2, lam 4/5. d: 2 + 1 = 3, then 0 - 1/2 - 1 = -3/2, then 1 + 1/2 - 1/2 = 1."""
    advantages, returns = gae(np.array([1.0, 0.0, 2.0]), np.array([0.5, 1.0, -1.0]), gamma=0.5, lam=0.8)
    assert advantages.tolist() == pytest.approx([1 - 0.4 * 0.3, -1.5 + 0.4 * 3, 3.0])
    assert returns.tolist() == pytest.approx([1.38, 0.7, 2.0])


def test_gae_with_lam_0_is_one_step_and_with_lam_1_all_rewards_to_come() -> None:
    rewards, values = np.array([1.0, 0.0, 2.0]), np.array([0.5, 1.0, -1.0])
    assert gae(rewards, values, 0.5, 0.0)[0].tolist() == pytest.approx([1.0, -1.5, 3.0])
    assert gae(rewards, values, 0.5, 1.0)[1].tolist() == pytest.approx([1 + 2 / 4, 2 / 2, 2.0])


def test_a_groups_advantages() -> None:
    """Mean 3, standard deviation sqrt(8 / 3) = 1.632993; a group of equal rewards has nothing to say."""
    rewards = np.array([[1.0, 3.0, 5.0, 3.0], [7.0, 7.0, 7.0, 7.0]])
    assert of_group(rewards)[0].tolist() == pytest.approx([-1.224670, 0.0, 1.224670, 0.0], rel=1e-6)
    assert of_group(rewards, scale=False)[0].tolist() == [-2.0, 0.0, 2.0, 0.0]
    assert of_group(rewards)[1].tolist() == [0.0] * 4


def test_each_of_a_group_against_the_others() -> None:
    """1 against (3 + 5 + 3) / 3, 5 against (1 + 3 + 3) / 3."""
    assert leave_one_out(np.array([[1.0, 3.0, 5.0, 3.0]]))[0].tolist() == pytest.approx([-8 / 3, 0.0, 8 / 3, 0.0])


def test_over_a_batch() -> None:
    """Mean 5, standard deviation sqrt(26 / 2) = 3.605551."""
    assert over_batch(np.array([2.0, 4.0, 9.0])).tolist() == pytest.approx([-0.832027, -0.277342, 1.109370], rel=1e-5)
    assert over_batch(np.array([4.0])).tolist() == [0.0]


def test_whitened_over_all_answers_together() -> None:
    """1, 3, 5, 7: mean 4, standard deviation sqrt(5)."""
    first, second = whitened([np.array([1.0, 3.0, 5.0]), np.array([7.0])])
    assert [*first, *second] == pytest.approx([-3 / 5**0.5, -1 / 5**0.5, 1 / 5**0.5, 3 / 5**0.5])


def answers(part: Any, logps: list[float], lengths: list[int], weights: list[float] | None = None, **given: Any) -> Any:
    """(leaf, Loss) of answers of these lengths, one after the other in `logps`; sampled at log-probability 0 each."""
    weights = weights or [1.0] * len(lengths)
    rows = [
        Row(np.zeros(length + 1, np.int32), np.arange(length + 1) > 0, weight=weight)
        for length, weight in zip(lengths, weights, strict=True)
    ]
    leaf = torch.tensor(logps, requires_grad=True)
    numbers = {"sampled": [0.0] * len(logps), **given}
    values = numbers.pop("values", None)
    batch = Batch(
        leaf, torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)), torch.tensor(weights),
        ("",) * len(lengths), torch.arange(len(lengths)), OBJECTIVES[part.kind].counts(rows, part),
        {name: torch.tensor(each) for name, each in numbers.items()}, values,
    )  # fmt: skip
    return leaf, OBJECTIVES[part.kind].loss(batch, part)


def mean(loss: Loss, name: str) -> float:
    total, count = loss.metrics[name]
    return total / count


def test_what_is_clipped_has_no_gradient() -> None:
    """Ratios 3/2 and 1/2, advantages 2 and -2, between 0.8 and 1.3: gains end at 2.6 and at -1.6, losses do not."""
    part = GRPOPart(grader=GRADER, mean="token", epsilon=0.2, epsilon_high=0.3)
    leaf, loss = answers(part, [log(1.5), log(1.5), log(0.5), log(0.5)], [4], advantage=[2.0, -2.0, 2.0, -2.0])
    assert loss.total.item() == pytest.approx(-(2.6 - 3.0 + 1.0 - 1.6) / 4)
    loss.total.backward()
    assert leaf.grad.tolist() == pytest.approx([0.0, 3.0 / 4, -1.0 / 4, 0.0])
    assert mean(loss, "clipped") == 0.5
    assert mean(loss, "drift") == pytest.approx((2 * log(1.5) + 2 * log(2)) / 4)
    assert mean(loss, "entropy") == pytest.approx(-(2 * log(1.5) - 2 * log(2)) / 4)


def test_an_answers_ratio_is_the_geometric_mean_of_its_tokens() -> None:
    """Token ratios 4 and 1: 2 for the answer, clipped at 1.2; the other answer's is 1/2."""
    part = GRPOPart(grader=GRADER, importance="sequence", mean="answer")
    leaf, loss = answers(part, [log(4), 0.0, log(0.5)], [2, 1], advantage=[1.0, 1.0, 3.0])
    assert loss.total.item() == pytest.approx(-(1.2 + 1.5) / 2)
    loss.total.backward()
    assert leaf.grad.tolist() == pytest.approx([0.0, 0.0, -1.5 / 2])


@pytest.mark.parametrize(
    ("over", "expected"),
    [("answer", -(1 - 2) / 2), ("token", -(1 - 3 * 2) / 4), ("length", -(1 - 3 * 2) / (2 * 5))],
)
def test_what_the_mean_is_over(over: str, expected: float) -> None:
    """Answers of 1 and 3 tokens, with advantages 1 and -2, of at most 5."""
    part = GRPOPart(grader=GRADER, mean=over, max_new_tokens=5)
    _, loss = answers(part, [0.0] * 4, [1, 3], advantage=[1.0, -2.0, -2.0, -2.0])
    assert loss.total.item() == pytest.approx(expected)


@pytest.mark.parametrize(("over", "expected"), [("answer", -1 / 1), ("token", -1 / 1), ("length", -1 / 5)])
def test_an_answer_that_weighs_nothing_is_not_there(over: str, expected: float) -> None:
    part = GRPOPart(grader=GRADER, mean=over, max_new_tokens=5)
    leaf, loss = answers(part, [0.0] * 4, [1, 3], weights=[1.0, 0.0], advantage=[1.0, -2.0, -2.0, -2.0])
    assert loss.total.item() == pytest.approx(expected)
    loss.total.backward()
    assert leaf.grad.tolist()[1:] == [0.0] * 3


def test_the_divergence_from_the_reference() -> None:
    """p = 1/2 and 1/2, p_ref = 1/4 and 1: d = -log 2 and log 2, k3 = 1/2 + log 2 - 1 and 2 - log 2 - 1."""
    expected = [0.5 + log(2) - 1, 2 - log(2) - 1]
    given = {"advantage": [0.0, 0.0], "reference": [log(0.25), 0.0]}
    _, loss = answers(GRPOPart(grader=GRADER, mean="token", beta=0.1), [log(0.5)] * 2, [2], **given)
    assert loss.total.item() == pytest.approx(0.1 * sum(expected) / 2)
    assert mean(loss, "kl") == pytest.approx(sum(expected) / 2)
    _, counted = answers(ReinforcePart(grader=GRADER, beta=0.1), [log(0.5)] * 2, [2], **given)
    assert counted.total.item() == 0.0, "reinforce++ counts it in the reward"
    assert mean(counted, "kl") == pytest.approx(sum(expected) / 2)


def test_values_are_kept_near_what_they_were() -> None:
    """From 1, within 0.2. To 3: V = 2 counts as 1.2, which is worse, and has no gradient; V = 1.1 is near enough.
    To 1: V = 2 is worse than 1.2."""
    values = torch.tensor([2.0, 1.1, 2.0], requires_grad=True)
    part = PPOPart(grader=GRADER, vf_coef=0.1, cliprange_value=0.2)
    given = {"advantage": [0.0] * 3, "value": [1.0] * 3, "return": [3.0, 3.0, 1.0], "values": values}
    _, loss = answers(part, [0.0] * 3, [3], **given)
    errors = [1.8**2, 1.9**2, 1.0]
    assert loss.total.item() == pytest.approx(0.1 * 0.5 * sum(errors) / 3)
    assert mean(loss, "value_error") == pytest.approx(sum(errors) / 3)
    loss.total.backward()
    assert values.grad.tolist() == pytest.approx([0.0, 0.1 * (1.1 - 3.0) / 3, 0.1 * (2.0 - 1.0) / 3])
