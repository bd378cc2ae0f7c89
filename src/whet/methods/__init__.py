"""Ways to adapt a model, under one seam: `METHODS` has a `Method` for every `method.kind` of the recipe.

full.py        every parameter, or parts of the model
lora.py        LoRA and its kin              adalora.py   the same with a budget of ranks
small.py       IA3, VeRA, OFT, BOFT, norms, tokens
bottleneck/    Houlsby's, Pfeiffer's and parallel adapters
virtual.py     prefix-tuning, prompt tuning, p-tuning
on_peft.py     what peft's methods share     contract.py  what a method is
"""

from __future__ import annotations

from whet.methods import adalora, bottleneck, full, lora, small, virtual
from whet.methods.contract import Facts, Given, Method

__all__ = ["METHODS", "Facts", "Given", "Method"]

METHODS: dict[str, Method] = {
    "full": full.METHOD,
    "lora": lora.METHOD,
    "adalora": adalora.METHOD,
    "ia3": small.IA3,
    "vera": small.VERA,
    "oft": small.OFT,
    "boft": small.BOFT,
    "ln_tuning": small.LN_TUNING,
    "trainable_tokens": small.TRAINABLE_TOKENS,
    "bottleneck": bottleneck.METHOD,
    "prefix": virtual.PREFIX,
    "prompt": virtual.PROMPT,
    "p_tuning": virtual.P_TUNING,
}
