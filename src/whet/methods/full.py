"""Full fine-tuning: every parameter is trained."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from whet.errors import RunError
from whet.recipe import FullPart

RESULT = "model"
NEEDS_FLOAT32 = True


def apply(model: Any, part: FullPart) -> Any:
    """All parameters trainable, in float32: bfloat16 steps of 1e-5 would round to nothing."""
    for parameter in model.parameters():
        parameter.requires_grad_(True)
        parameter.data = parameter.data.float()
    return model


def base(model: Any) -> AbstractContextManager[None]:
    """Raises RunError: full fine-tuning overwrites the base, which must be loaded again."""
    raise RunError("full fine-tuning keeps no base inside the model", do="load the base model beside it")


def save(model: Any, folder: Path) -> None:
    """`config.json` and `model.safetensors`, float32, as `AutoModelForCausalLM.from_pretrained` reads them."""
    model.save_pretrained(folder)
