"""Methods of the peft library that train less than a LoRA: vectors, rotations, norms, single tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from whet.errors import RecipeError
from whet.methods import on_peft
from whet.methods.contract import Facts, Given
from whet.methods.lora import embeddings, is_tied
from whet.recipe import BOFTPart, IA3Part, LNTuningPart, OFTPart, TrainableTokensPart, VeRAPart


def _ia3(model: Any, part: IA3Part, given: Given) -> Any:
    from peft import IA3Config

    return IA3Config(task_type="CAUSAL_LM", **on_peft.settings(part))


def _vera(model: Any, part: VeRAPart, given: Given) -> Any:
    from peft import VeraConfig

    return VeraConfig(task_type="CAUSAL_LM", **on_peft.settings(part))


def _oft(model: Any, part: OFTPart, given: Given) -> Any:
    from peft import OFTConfig

    return OFTConfig(task_type="CAUSAL_LM", **on_peft.settings(part))


def _boft(model: Any, part: BOFTPart, given: Given) -> Any:
    from peft import BOFTConfig

    return BOFTConfig(task_type="CAUSAL_LM", **on_peft.settings(part))


def _ln_tuning(model: Any, part: LNTuningPart, given: Given) -> Any:
    from peft import LNTuningConfig

    config = on_peft.settings(part)
    config.setdefault("target_modules", norms(model))
    return LNTuningConfig(task_type="CAUSAL_LM", **config)


def _trainable_tokens(model: Any, part: TrainableTokensPart, given: Given) -> Any:
    from peft import TrainableTokensConfig

    indices = sorted({*part.token_indices, *given.new_token_ids})
    if not indices:
        raise RecipeError(
            "no token to train", where="method.token_indices", do="name ids, or add tokens by model.new_tokens"
        )
    where = embeddings(model)[:1] if is_tied(model) else embeddings(model)
    return TrainableTokensConfig(task_type="CAUSAL_LM", token_indices=indices, target_modules=where)


def norms(model: Any) -> list[str]:
    """The last part of the names of the model's normalisation layers: those whose only parameters are vectors."""
    found = set()
    for name, module in model.named_modules():
        parameters = list(module.parameters(recurse=False))
        if parameters and all(p.ndim == 1 for p in parameters) and "norm" in type(module).__name__.lower():
            found.add(name.rsplit(".", 1)[-1])
    return sorted(found)


IA3 = on_peft.method(Facts("a factor for each key, value and inner unit", "arXiv 2205.05638", merges=True), _ia3)
VERA = on_peft.method(Facts("two vectors around frozen random matrices", "arXiv 2310.11454", merges=True), _vera)
OFT = on_peft.method(Facts("rotations of the weights, in blocks", "arXiv 2306.07280", merges=True), _oft)
_BOFT = on_peft.method(
    Facts("rotations as butterflies of small blocks", "arXiv 2311.06243", merges=True, quantizes=False), _boft
)


def _put_on_boft(model: Any, part: BOFTPart, given: Given) -> Any:
    """peft writes a permutation's ones in number by number: seconds a model, and nothing that can be done on one
    without memory, whose parameters are only to be counted. Rows of the identity are the same matrix."""
    from peft.tuners.boft.layer import BOFTLayer

    written = BOFTLayer.perm2mat
    BOFTLayer.perm2mat = lambda self, indices: torch.eye(len(indices))[indices]
    try:
        return _BOFT.apply(model, part, given)
    finally:
        BOFTLayer.perm2mat = written


BOFT = replace(_BOFT, apply=_put_on_boft)
LN_TUNING = on_peft.method(
    Facts("the normalisation layers", "arXiv 2312.11420", merges=True, private=True), _ln_tuning, norms=True
)
TRAINABLE_TOKENS = on_peft.method(
    Facts("the embeddings of chosen tokens", "peft", merges=True), _trainable_tokens, embeds=True
)
