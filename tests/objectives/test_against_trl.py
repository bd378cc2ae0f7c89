"""Losses and gradients against TRL's trainers, on the same log-probabilities: their own methods run on a trainer that
was not set up, with a model that says what it is told to."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from whet.objectives import OBJECTIVES, Batch, Loss
from whet.recipe import CPOPart, DPOPart, GRPOPart, KTOPart, ORPOPart, RewardPart, SimPOPart

trl = pytest.importorskip("trl", reason="the oracle of these tests; pip install 'whet[bench]'")

PAIRS, LONGEST, PROMPT = 5, 9, 3
GRADER = {"type": "string_check", "operation": "eq", "reference": "x"}


class Told:
    """Log-probabilities [R, L] of R rows, a prompt and then 1 to L - PROMPT answer tokens each, as TRL holds them."""

    def __init__(self, rows: int, seed: int = 0):
        draw = torch.Generator().manual_seed(seed)
        lengths = torch.randint(1, LONGEST - PROMPT, (rows,), generator=draw)
        places = torch.arange(LONGEST)[None]
        self.mask_RL = ((places >= PROMPT) & (places < PROMPT + lengths[:, None])).long()
        self.logps_RM = -3 * torch.rand(rows, LONGEST - 1, generator=draw) * self.mask_RL[:, 1:]
        self.logps_RM.requires_grad_()
        self.reference_RM = -3 * torch.rand(rows, LONGEST - 1, generator=draw) * self.mask_RL[:, 1:]

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        ids = torch.ones_like(self.mask_RL)
        return {"input_ids": ids, "attention_mask": ids, "completion_mask": self.mask_RL}

    @property
    def masked(self) -> torch.Tensor:
        """0 outside of answers, with no gradient, as TRL's models give them."""
        return self.logps_RM * self.mask_RL[:, 1:]

    def sums(self) -> torch.Tensor:
        return self.masked.sum(1)

    def model(self, **_: Any) -> SimpleNamespace:
        other = torch.zeros_like(self.logps_RM)
        return SimpleNamespace(log_probs=self.masked, entropy=other, mean_logits=other, is_top1=other.bool())

    def batch(self, roles: list[str], examples: list[int], step: dict[str, float], **given: torch.Tensor) -> Batch:
        at = self.mask_RL[:, 1:].bool()
        row_RM = torch.arange(len(roles))[:, None].expand_as(at)
        numbers = {"reference": self.reference_RM[at], **{name: each[at] for name, each in given.items()}}
        weights = torch.ones(len(roles))
        return Batch(self.logps_RM[at], row_RM[at], weights, tuple(roles), torch.tensor(examples), step, numbers)

    def pairs(self) -> Batch:
        """The first half is chosen, the second rejected."""
        roles = ["chosen"] * PAIRS + ["rejected"] * PAIRS
        step = {"pairs": float(PAIRS), "chosen_targets": float(self.mask_RL[:PAIRS].sum())}
        return self.batch(roles, [*range(PAIRS)] * 2, step)


def trainer(kind: type, **attributes: Any) -> Any:
    """A trainer of this class that has these attributes and nothing else."""
    made = object.__new__(kind)
    same = SimpleNamespace(gather=lambda x: x, gather_for_metrics=lambda x: x, reduce=lambda x, **_: x, device="cpu")
    made.__dict__.update(
        accelerator=same, model=SimpleNamespace(training=True), _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0, _tp_size=1, aux_loss_enabled=False, **attributes,
    )  # fmt: skip
    return made


def same(ours: Loss, theirs: torch.Tensor, leaf: torch.Tensor) -> None:
    torch.testing.assert_close(ours.total, theirs, rtol=1e-5, atol=1e-6)
    (expected,) = torch.autograd.grad(theirs, leaf, retain_graph=True)
    (found,) = torch.autograd.grad(ours.total, leaf)
    assert expected.abs().max() > 1e-4
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ["sigmoid", "hinge", "ipo", "robust", "sigmoid_norm"])
def test_dpo(kind: str) -> None:
    told = Told(2 * PAIRS)
    smoothing = 0.1 if kind == "robust" else 0.0
    theirs = trainer(
        trl.DPOTrainer, ld_alpha=None, precompute_ref_logps=True, f_divergence_type="reverse_kl", loss_types=[kind],
        loss_weights=[1.0], beta=0.3, label_smoothing=smoothing, use_weighting=False,
    )  # fmt: skip
    ref = told.reference_RM.sum(1)
    inputs = {**told.inputs, "ref_chosen_logps": ref[:PAIRS], "ref_rejected_logps": ref[PAIRS:]}
    expected = theirs._compute_loss(told.model, inputs, return_outputs=False)
    found = OBJECTIVES["dpo"].loss(told.pairs(), DPOPart(loss=kind, beta=0.3, label_smoothing=smoothing))
    same(found, expected, told.logps_RM)
    metrics = theirs._metrics["train"]
    for ours, name in {"reward_chosen": "chosen", "reward_rejected": "rejected", "margin": "margins"}.items():
        total, count = found.metrics[ours]
        assert total / count == pytest.approx(metrics[f"rewards/{name}"][0], rel=1e-5)
    total, count = found.metrics["accuracy"]
    assert total / count == pytest.approx(metrics["rewards/accuracies"][0])


def test_conservative_dpo_is_a_mean_of_both_directions() -> None:
    """TRL's sigmoid takes no label smoothing; Mitchell 2023 is (1 - e) of the loss and e of the swapped one's."""
    told = Told(2 * PAIRS)
    batch = told.pairs()
    plain = DPOPart(beta=0.3)
    swapped = Batch(batch.logps_N, batch.row_of_N, batch.weights_R, tuple(reversed(batch.roles_R)), batch.example_of_R,
                    batch.step, batch.given)  # fmt: skip
    loss = OBJECTIVES["dpo"].loss
    expected = 0.8 * loss(batch, plain).total + 0.2 * loss(swapped, plain).total
    torch.testing.assert_close(loss(batch, DPOPart(beta=0.3, label_smoothing=0.2)).total, expected)


def test_orpo() -> None:
    from trl.experimental.orpo import ORPOTrainer

    told = Told(2 * PAIRS)
    means_R = told.sums() / told.mask_RL.sum(1)
    ratios, *_ = trainer(ORPOTrainer, beta=0.25).odds_ratio_loss(means_R[:PAIRS], means_R[PAIRS:])
    nll = -told.logps_RM[:PAIRS][told.mask_RL[:PAIRS, 1:].bool()].mean()
    same(OBJECTIVES["orpo"].loss(told.pairs(), ORPOPart(beta=0.25)), nll - ratios.mean(), told.logps_RM)


@pytest.mark.parametrize("kind", ["sigmoid", "simpo"])
def test_cpo_and_simpo(kind: str) -> None:
    from trl.experimental.cpo import CPOTrainer

    told = Told(2 * PAIRS)
    sums_R = told.sums() / told.mask_RL.sum(1) if kind == "simpo" else told.sums()
    theirs = trainer(CPOTrainer, beta=0.7, loss_type=kind, simpo_gamma=0.5, label_smoothing=0.0, alpha=0.0)
    losses, *_ = theirs.cpo_loss(sums_R[:PAIRS], sums_R[PAIRS:])
    if kind == "simpo":
        expected, part = losses.mean(), SimPOPart(beta=0.7, gamma=0.5)
    else:
        nll = -told.logps_RM[:PAIRS][told.mask_RL[:PAIRS, 1:].bool()].mean()
        expected, part = losses.mean() + 0.4 * nll, CPOPart(beta=0.7, alpha=0.4)
    same(OBJECTIVES[part.kind].loss(told.pairs(), part), expected, told.logps_RM)


@pytest.mark.parametrize("shift", [0.0, -4.0], ids=["z above 0", "z clamped at 0"])
def test_kto(shift: float) -> None:
    told, others = Told(PAIRS), Told(PAIRS, seed=1)
    others.reference_RM = (others.logps_RM.detach() - 0.5 - shift) * others.mask_RL[:, 1:]
    labels = torch.tensor([1, 0, 1, 1, 0])
    theirs = trainer(
        trl.KTOTrainer, calculate_KL=True, precompute_ref_logps=True, loss_type="kto", beta=0.3, desirable_weight=1.2,
        undesirable_weight=0.7,
    )  # fmt: skip
    theirs._compute_kl_logps = lambda model, batch: others.sums().detach()
    inputs = {**told.inputs, "label": labels, "ref_logps": told.reference_RM.sum(1)}
    inputs["ref_KL_logps"] = others.reference_RM.sum(1)
    expected = theirs._compute_loss(told.model, inputs, return_outputs=False)
    z = (others.sums() - others.reference_RM.sum(1)).mean().clamp(min=0).detach()
    batch = told.batch(
        ["good" if label else "bad" for label in labels], [*range(PAIRS)], {"answers": float(PAIRS)},
        z=z.expand_as(told.logps_RM),
    )  # fmt: skip
    part = KTOPart(beta=0.3, desirable_weight=1.2, undesirable_weight=0.7)
    same(OBJECTIVES["kto"].loss(batch, part), expected, told.logps_RM)


@pytest.mark.parametrize("centre", [0.0, 0.01])
def test_reward(centre: float) -> None:
    rewards_R = torch.randn(2 * PAIRS, generator=torch.Generator().manual_seed(0)).requires_grad_()
    margins = torch.rand(PAIRS, generator=torch.Generator().manual_seed(1))
    theirs = trainer(trl.RewardTrainer, args=SimpleNamespace(center_rewards_coefficient=centre or None))
    inputs = {"attention_mask": torch.ones(2 * PAIRS, 3), "margin": margins}
    expected = theirs.compute_loss(lambda **_: SimpleNamespace(logits=rewards_R[:, None]), inputs)
    roles = ("chosen",) * PAIRS + ("rejected",) * PAIRS
    given = {"margin": torch.cat([margins, margins])}
    batch = Batch(rewards_R, torch.arange(2 * PAIRS), torch.ones(2 * PAIRS), roles, torch.arange(PAIRS).repeat(2),
                  {"pairs": float(PAIRS)}, given)  # fmt: skip
    same(OBJECTIVES["reward"].loss(batch, RewardPart(center_rewards_coefficient=centre)), expected, rewards_R)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"loss_type": "grpo"}, {}),
        ({"loss_type": "dapo", "epsilon_high": 0.28}, {"mean": "token", "epsilon_high": 0.28}),
        ({"loss_type": "dr_grpo"}, {"mean": "length", "scale_rewards": False}),
        ({"loss_type": "grpo", "importance_sampling_level": "sequence"}, {"importance": "sequence"}),
        ({"loss_type": "grpo", "beta": 0.04}, {"beta": 0.04}),
    ],
    ids=["grpo", "dapo", "dr_grpo", "gspo", "with divergence"],
)
def test_grpo(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    told = Told(2 * PAIRS)
    mask_RC = told.mask_RL[:, PROMPT:]
    sampled_RM = (told.logps_RM.detach() + 0.4 * torch.randn(told.logps_RM.shape)) * told.mask_RL[:, 1:]
    advantages_R = torch.randn(2 * PAIRS, generator=torch.Generator().manual_seed(2))
    settings = {"epsilon_high": 0.2, "importance_sampling_level": "token", "beta": 0.0, **theirs}
    answers = PROMPT - 1  # the first column of what predicts an answer's tokens
    made = trainer(
        trl.GRPOTrainer, top_entropy_quantile=1.0, off_policy_mask_threshold=None, epsilon_low=0.2, use_vllm=False,
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1), max_completion_length=7,
        current_gradient_accumulation_steps=1, _entropy_bonus_enabled=False, **settings,
    )  # fmt: skip
    made.accelerator.num_processes = 1
    made._get_per_token_logps_and_entropies = lambda *_, **__: (
        told.masked[:, answers:], torch.zeros_like(mask_RC, dtype=torch.float32), None
    )  # fmt: skip
    inputs = {
        "prompt_ids": told.mask_RL[:, :PROMPT], "prompt_mask": torch.ones_like(told.mask_RL[:, :PROMPT]),
        "completion_ids": mask_RC, "completion_mask": mask_RC, "advantages": advantages_R,
        "old_per_token_logps": sampled_RM[:, answers:], "ref_per_token_logps": told.reference_RM[:, answers:],
        "num_items_in_batch": mask_RC.sum(),
    }  # fmt: skip
    expected = made._compute_loss(None, inputs)
    part = GRPOPart(grader=GRADER, max_new_tokens=7, **ours)
    rows = [SimpleNamespace(weight=1.0, target_count=int(count)) for count in mask_RC.sum(1)]
    batch = told.batch(
        [""] * (2 * PAIRS), [*range(2 * PAIRS)], OBJECTIVES["grpo"].counts(rows, part), sampled=sampled_RM,
        advantage=advantages_R[:, None].expand_as(told.logps_RM),
    )  # fmt: skip
    same(OBJECTIVES["grpo"].loss(batch, part), expected, told.logps_RM)
