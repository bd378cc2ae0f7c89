"""LoRA: W x + (lora_alpha / r) B A x with W frozen (Hu et al. 2021, arXiv 2106.09685). peft's, with its file format.

Its kin by setting: rsLoRA (Kalajdzievski 2023, arXiv 2312.03732), DoRA (Liu et al. 2024, arXiv 2402.09353), PiSSA (Meng
et al. 2024, arXiv 2404.02948), OLoRA (Buyukakyuz 2024, arXiv 2406.01775), LoRA+ (Hayou et al. 2024, arXiv 2402.12354).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from whet.methods import on_peft
from whet.methods.contract import Facts, Given, Method
from whet.recipe import LoRAPart

_INITIAL = "_whet_initial"  # attribute: the adapter as it began, where it began from the weights themselves


def apply(model: Any, part: LoRAPart, given: Given) -> Any:
    """The model as a PeftModel; A, B and `modules_to_save` are float32 whatever the base is.

    Raises RecipeError where `target_modules` names nothing in the model, or a module has no room for the rank.
    """
    from peft import LoraConfig

    for r in (part.r, *part.rank_pattern.values()):
        on_peft.check_rank(model, r, "method.r")
    config = on_peft.settings(part, "loraplus_lr_ratio")
    config.setdefault("lora_alpha", 2 * part.r)
    tokens = sorted({*(part.trainable_token_indices or ()), *given.new_token_ids})
    if tokens:
        config["trainable_token_indices"] = tokens if is_tied(model) else dict.fromkeys(embeddings(model), tokens)
    adapted = on_peft.adapt(model, LoraConfig(task_type="CAUSAL_LM", **config))
    if _from_the_weights(part.init_lora_weights):
        setattr(adapted, _INITIAL, _kept(adapted))
    return adapted


def is_tied(model: Any) -> bool:
    """Whether head and embeddings are one matrix."""
    head = model.get_output_embeddings()
    return head is None or head.weight is model.get_input_embeddings().weight


def embeddings(model: Any) -> list[str]:
    """The names of the embeddings and of the head, as peft finds them."""
    wanted = (model.get_input_embeddings(), model.get_output_embeddings())
    return [name.rsplit(".", 1)[-1] for name, module in model.named_modules() if any(module is one for one in wanted)]


@contextmanager
def base(model: Any) -> Iterator[None]:
    """Within it, the model answers as it did before. PiSSA and OLoRA take their start out of the weights, so that the
    base is the adapter as it began, not its absence."""
    if not hasattr(model, _INITIAL):
        with model.disable_adapter():
            yield
        return
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    now = {name: tensor.clone() for name, tensor in get_peft_model_state_dict(model).items()}
    set_peft_model_state_dict(model, getattr(model, _INITIAL))
    try:
        yield
    finally:
        set_peft_model_state_dict(model, now)


def save(model: Any, folder: Path) -> None:
    """As peft saves it; PiSSA and OLoRA as the plain LoRA of rank 2 r that makes the same change to the untouched base:
    B A - B0 A0 = [B B0] [A; -A0]."""
    if not hasattr(model, _INITIAL):
        on_peft.save(model, folder)
        return
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    now = {name: tensor.clone() for name, tensor in get_peft_model_state_dict(model).items()}
    with tempfile.TemporaryDirectory() as start:
        initial = model.peft_config["default"].init_lora_weights
        set_peft_model_state_dict(model, getattr(model, _INITIAL))
        on_peft.save(model, Path(start))
        set_peft_model_state_dict(model, now)
        model.peft_config["default"].init_lora_weights = initial
        model.save_pretrained(folder, save_embedding_layers=False, path_initial_model_for_weight_conversion=start)


def rate(name: str, part: LoRAPart, layers: int) -> float:
    """LoRA+: B learns faster than A by `loraplus_lr_ratio` (section 4 of the paper)."""
    return part.loraplus_lr_ratio if ".lora_B." in name else 1.0


def _from_the_weights(init: bool | str) -> bool:
    return isinstance(init, str) and init.startswith(("pissa", "olora"))


def _kept(model: Any) -> dict[str, torch.Tensor]:
    from peft import get_peft_model_state_dict

    return {name: tensor.detach().clone() for name, tensor in get_peft_model_state_dict(model).items()}


METHOD = Method(
    facts=Facts(
        "low-rank change beside the weights (DoRA, rsLoRA, PiSSA, LoRA+ by setting)",
        "arXiv 2106.09685",
        merges=True,
        private=True,
    ),
    apply=apply,
    base=base,
    save=save,
    load=on_peft.load,
    switch=on_peft.switch,
    merge=on_peft.merge,
    rate=rate,
)
