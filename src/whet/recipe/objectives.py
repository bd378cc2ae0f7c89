"""The recipe's `objective`: what is learnt from the rows. Each kind is one published loss; none stands in for
another."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from whet.recipe.graders import GraderPart
from whet.recipe.part import Part

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class SFTPart(Part):
    kind: Literal["sft"] = "sft"
    learn: Literal["completions", "everything"] = "completions"
    """Learn assistant turns only, or every token."""


class DPOPart(Part):
    kind: Literal["dpo"] = "dpo"
    loss: Literal["sigmoid", "hinge", "ipo", "robust", "sigmoid_norm"] = "sigmoid"
    """Of the margin between chosen and rejected; `sigmoid_norm` takes it a token."""
    beta: Positive = 0.1
    """How dear it is to leave the reference."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """The share of pairs that are thought to be the wrong way round (sigmoid and robust)."""


class ORPOPart(Part):
    kind: Literal["orpo"] = "orpo"
    beta: Positive = 0.1
    """Weight of the odds ratio beside the likelihood of chosen."""


class SimPOPart(Part):
    kind: Literal["simpo"] = "simpo"
    beta: Positive = 2.0
    gamma: NotNegative = 1.0
    """The margin asked for, in the unit of beta times nats a token."""


class CPOPart(Part):
    kind: Literal["cpo"] = "cpo"
    beta: Positive = 0.1
    alpha: NotNegative = 1.0
    """Weight of the likelihood of chosen."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0


class KTOPart(Part):
    kind: Literal["kto"] = "kto"
    beta: Positive = 0.1
    desirable_weight: NotNegative = 1.0
    undesirable_weight: NotNegative = 1.0


class RewardPart(Part):
    kind: Literal["reward"] = "reward"
    center_rewards_coefficient: NotNegative = 0.0
    """Of the squared sum of both rewards, which keeps them around 0; 0.01 is usual."""


class PolicyPart(Part):
    """What all ways of learning from sampled answers share."""

    kind: str
    grader: GraderPart
    """What an answer is worth."""
    watch: GraderPart | None = None
    """Another grader, which is not learnt from: where the reward rises and this falls, the model has found a trick."""
    num_generations: Annotated[int, Field(ge=1)] = 1
    """Answers to each prompt."""
    max_new_tokens: Annotated[int, Field(ge=1)] = 256
    temperature: Positive = 1.0
    num_iterations: Annotated[int, Field(ge=1)] = 1
    """Times that all answers of a step are learnt from before new ones are drawn."""
    minibatches: Annotated[int, Field(ge=1)] = 1
    """Updates that each of these times is cut into."""
    epsilon: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Ratios below 1 - epsilon or above 1 + epsilon gain nothing more."""
    epsilon_high: Positive | None = None
    """The upper one, where it is another (DAPO: 0.28)."""
    beta: NotNegative = 0.0
    """How dear it is to leave the reference."""
    kl_in: Literal["loss", "reward"] = "loss"
    """Where that is counted."""
    patience: Annotated[int, Field(ge=1)] = 20
    """Steps with a sign of collapse after which the run stops."""

    @model_validator(mode="after")
    def _groups(self) -> PolicyPart:
        least = 2 if self.kind in ("grpo", "rloo") else 1
        if self.num_generations < least:
            raise ValueError(f"{self.kind} compares the answers to one prompt: num_generations must be 2 or more")
        return self


class GRPOPart(PolicyPart):
    kind: Literal["grpo"] = "grpo"
    num_generations: Annotated[int, Field(ge=1)] = 8
    """Answers to each prompt, which are compared."""
    scale_rewards: bool = True
    """Divide by the group's standard deviation (Dr. GRPO: false)."""
    mean: Literal["answer", "token", "length"] = "answer"
    """Of the loss: GRPO, DAPO, Dr. GRPO."""
    importance: Literal["token", "sequence"] = "token"
    """The ratio of a token, or of the whole answer (GSPO)."""


class RLOOPart(PolicyPart):
    kind: Literal["rloo"] = "rloo"
    num_generations: Annotated[int, Field(ge=1)] = 4
    """Answers to each prompt, each of which is compared with the others."""
    beta: NotNegative = 0.05
    kl_in: Literal["loss", "reward"] = "reward"


class ReinforcePart(PolicyPart):
    kind: Literal["reinforce++"] = "reinforce++"
    beta: NotNegative = 0.01
    kl_in: Literal["loss", "reward"] = "reward"


class PPOPart(PolicyPart):
    kind: Literal["ppo"] = "ppo"
    num_iterations: Annotated[int, Field(ge=1)] = 4
    """Times that all answers of a step are learnt from before new ones are drawn."""
    beta: NotNegative = 0.05
    kl_in: Literal["loss", "reward"] = "reward"
    kl_target: Positive | None = None
    """Nats an answer; where set, beta is adapted to keep the divergence there (Ziegler et al. 2019)."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 1.0
    lam: Annotated[float, Field(ge=0, le=1)] = 0.95
    vf_coef: NotNegative = 0.1
    cliprange_value: Positive = 0.2
    whiten_advantages: bool = True

    @model_validator(mode="after")
    def _adaptable(self) -> PPOPart:
        if self.kl_target is not None and not self.beta:
            raise ValueError("kl_target adapts beta, which must begin above 0")
        return self


ObjectivePart = Annotated[
    SFTPart
    | DPOPart
    | ORPOPart
    | SimPOPart
    | CPOPart
    | KTOPart
    | RewardPart
    | GRPOPart
    | RLOOPart
    | ReinforcePart
    | PPOPart,
    Field(discriminator="kind"),
]
