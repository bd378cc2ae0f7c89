"""Ways to adapt a model, under one seam.

A method is a module with five functions; `METHODS` names them by the recipe's `method.kind`:

    apply(model, part)            -> the model with its trainable parameters, in float32; all else frozen
    base(model)                   -> context manager: the model as it was before, where that is possible
    save(model, folder)           -> the result, in peft's or Hugging Face's own format
    RESULT                        -> the folder's name in the run: "adapter" or "model"
    NEEDS_FLOAT32                 -> whether the whole model is trained and so must be loaded in float32
"""

from __future__ import annotations

from types import ModuleType

from whet.methods import full, lora

METHODS: dict[str, ModuleType] = {"full": full, "lora": lora}
