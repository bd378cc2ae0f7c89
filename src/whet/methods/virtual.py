"""Virtual tokens before every row: prefix-tuning (Li and Liang 2021, arXiv 2101.00190), prompt tuning (Lester et al.
2021, arXiv 2104.08691), p-tuning (Liu et al. 2021, arXiv 2103.10385).

The parameters and the files are peft's. The forward is our own: in a trie of tokens the virtual ones are the ancestor
of every row (`whet.models.virtual`), so rows stay packed and layers may be checkpointed.
"""

from __future__ import annotations

from typing import Any

from whet.methods import on_peft
from whet.methods.contract import Facts, Given
from whet.recipe import PrefixPart, PromptPart, PTuningPart


def _prefix(model: Any, part: PrefixPart, given: Given) -> Any:
    from peft import PrefixTuningConfig

    return PrefixTuningConfig(task_type="CAUSAL_LM", **on_peft.settings(part))


def _prompt(model: Any, part: PromptPart, given: Given) -> Any:
    from peft import PromptTuningConfig

    config = on_peft.settings(part)
    config["prompt_tuning_init"] = "RANDOM" if part.prompt_tuning_init_text is None else "TEXT"
    if part.prompt_tuning_init_text is not None:
        config["tokenizer_name_or_path"] = str(given.tokenizer.name_or_path)
    return PromptTuningConfig(task_type="CAUSAL_LM", **config)


def _p_tuning(model: Any, part: PTuningPart, given: Given) -> Any:
    from peft import PromptEncoderConfig

    return PromptEncoderConfig(task_type="CAUSAL_LM", **on_peft.settings(part))


PREFIX = on_peft.method(Facts("keys and values of virtual tokens in every layer", "arXiv 2101.00190"), _prefix)
PROMPT = on_peft.method(Facts("embeddings of virtual tokens", "arXiv 2104.08691"), _prompt)
P_TUNING = on_peft.method(Facts("virtual tokens made by a small network", "arXiv 2103.10385"), _p_tuning)
