"""LoRA: W x + (lora_alpha / r) B A x with W frozen (Hu et al. 2021, arXiv 2106.09685). peft's, with its file format."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from whet.errors import RecipeError
from whet.recipe import LoRAPart

RESULT = "adapter"
NEEDS_FLOAT32 = False


def apply(model: Any, part: LoRAPart) -> Any:
    """The model as a PeftModel; A, B and `modules_to_save` are float32 whatever the base is.

    Raises RecipeError where `target_modules` names nothing in the model.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=part.r,
        lora_alpha=part.lora_alpha if part.lora_alpha is not None else 2 * part.r,
        lora_dropout=part.lora_dropout,
        target_modules=part.target_modules,
        modules_to_save=part.modules_to_save,
        task_type="CAUSAL_LM",
    )
    try:
        adapted = get_peft_model(model, config)
    except ValueError as error:
        names = sorted({name.rsplit(".", 1)[-1] for name, module in model.named_modules() if hasattr(module, "weight")})
        raise RecipeError(
            f"peft cannot put a LoRA on {part.target_modules!r}: {error}",
            where="method.target_modules",
            do=f"the model's modules are {', '.join(names)}",
        ) from None
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return adapted


def base(model: Any) -> AbstractContextManager[None]:
    """Within it, the model answers as it did before."""
    return model.disable_adapter()  # type: ignore[no-any-return]


def save(model: Any, folder: Path) -> None:
    """`adapter_config.json` and `adapter_model.safetensors`, as `PeftModel.from_pretrained` reads them."""
    # Not "auto": peft would then ask the hub for the base's configuration, to see whether the vocabulary grew.
    model.save_pretrained(folder, save_embedding_layers=False)
