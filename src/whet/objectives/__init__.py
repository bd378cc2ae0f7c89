"""What is learnt from rows. `OBJECTIVES` names each by the recipe's `objective.kind`; `Objective` says what one is made
of. Their losses are pure functions of log-probabilities: each says its formula, and whose it is. Totals are divided by
sums over all packs and ranks of a step, so that neither packing nor accumulation weighs a row differently.
"""

from __future__ import annotations

from whet.objectives.contract import Batch, Loss, Objective
from whet.objectives.dpo import DPO
from whet.objectives.kto import KTO
from whet.objectives.policy import GRPO, PPO
from whet.objectives.reference_free import CPO, ORPO, SIMPO
from whet.objectives.reward import REWARD
from whet.objectives.sft import SFT

__all__ = ["OBJECTIVES", "Batch", "Loss", "Objective"]

OBJECTIVES: dict[str, Objective] = {
    "sft": SFT,
    "dpo": DPO,
    "orpo": ORPO,
    "simpo": SIMPO,
    "cpo": CPO,
    "kto": KTO,
    "reward": REWARD,
    "grpo": GRPO,
    "rloo": GRPO,  # the same loss; how advantages are made differs
    "reinforce++": GRPO,
    "ppo": PPO,
}
