"""The recipe's `objective`: what is learnt from the rows. Each kind is one published loss; none stands in for
another."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

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


ObjectivePart = Annotated[
    SFTPart | DPOPart | ORPOPart | SimPOPart | CPOPart | KTOPart | RewardPart, Field(discriminator="kind")
]
