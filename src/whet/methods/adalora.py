"""AdaLoRA: W x + P diag(E) Q x, whose singular values E are cut to a budget while training (Zhang et al. 2023, arXiv
2303.10512). peft's, with its file format; its schedule and importance scores are part of a checkpoint."""

from __future__ import annotations

from typing import Any

import torch

from whet.errors import RecipeError
from whet.methods import on_peft
from whet.methods.contract import Facts, Given, Method, refuse_new_tokens
from whet.recipe import AdaLoRAPart

_SCORES = ("ipt", "exp_avg_ipt", "exp_avg_unc")


def apply(model: Any, part: AdaLoRAPart, given: Given) -> Any:
    """The model as a PeftModel that knows how many steps there are.

    Raises RecipeError where ranks leave nothing to cut, or no step lies between `tinit` and `tfinal`.
    """
    from peft import AdaLoraConfig

    steps = max(given.total_steps, 1)
    tinit, tfinal = (round(t * steps) if t < 1 else round(t) for t in (part.tinit, part.tfinal))
    if part.target_r >= part.init_r:
        raise RecipeError(
            f"target_r={part.target_r} leaves nothing to cut of init_r={part.init_r}",
            where="method.target_r",
            do=f"raise method.init_r above {part.target_r}, or take method=lora",
        )
    if tinit >= steps - tfinal:
        raise RecipeError(
            f"of {steps} steps, {tinit} come before ranks are cut and {tfinal} after: none is left for cutting",
            where="method.tinit",
            do="train for more steps, or lower method.tinit and method.tfinal (shares of all steps when below 1)",
        )
    on_peft.check_rank(model, part.init_r, "method.init_r")
    refuse_new_tokens(given, part.kind)
    config = on_peft.settings(part, "tinit", "tfinal")
    return on_peft.adapt(
        model, AdaLoraConfig(task_type="CAUSAL_LM", **config, tinit=tinit, tfinal=tfinal, total_step=steps)
    )


def penalty(model: Any) -> torch.Tensor:
    """orth_reg_weight times the mean over P and Q of || Q Q' - I ||_F (the paper's equation 3), as peft adds it."""
    config = model.peft_config["default"]
    parts = []
    for name, parameter in model.named_parameters():
        if ".lora_A." in name or ".lora_B." in name:
            square = parameter @ parameter.T if ".lora_A." in name else parameter.T @ parameter
            parts.append(torch.linalg.matrix_norm(square - torch.eye(len(square), device=square.device)))
    return config.orth_reg_weight * torch.stack(parts).mean()


def after_step(model: Any, step: int) -> None:
    """Update importance scores from the gradients, and cut ranks to the budget of `step` (counted from 1)."""
    model.base_model.update_and_allocate(step)


def state(model: Any) -> dict[str, torch.Tensor]:
    """Importance scores, and which singular values are left."""
    allocator = model.base_model.rankallocator
    tensors = {f"{key}.{name}": t for key in _SCORES for name, t in getattr(allocator, key).items()}
    kept = model.peft_config["default"].rank_pattern or {}
    return tensors | {f"kept.{name}": torch.tensor(mask) for name, mask in kept.items()}


def load_state(model: Any, tensors: dict[str, torch.Tensor]) -> None:
    allocator, device = model.base_model.rankallocator, model.device
    for key in _SCORES:
        begin = f"{key}."
        scores = {name.removeprefix(begin): t.to(device) for name, t in tensors.items() if name.startswith(begin)}
        setattr(allocator, key, scores)
    kept = {name.removeprefix("kept."): t.tolist() for name, t in tensors.items() if name.startswith("kept.")}
    if kept:
        model.peft_config["default"].rank_pattern = kept


METHOD = Method(
    facts=Facts("low-rank change whose rank is cut where it matters least", "arXiv 2303.10512", merges=True),
    apply=apply,
    base=on_peft.base,
    save=on_peft.save,
    load=on_peft.load,
    switch=on_peft.switch,
    merge=on_peft.merge,
    penalty=penalty,
    after_step=after_step,
    state=state,
    load_state=load_state,
)
