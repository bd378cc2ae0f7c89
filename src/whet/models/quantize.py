"""Bases in few bits, through bitsandbytes: NF4 (arXiv 2305.14314) and int8 (arXiv 2208.07339), both by Dettmers et al.

The linear layers of the decoder are held in 4 or 8 bits and widened as they are used, on CUDA and on CPU; embeddings,
norms and head stay as they are.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from whet.errors import MissingExtra

# On CPU it tells of every product that it casts its inputs, and at import of a kernel that it would fetch.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


BLOCK = 64
"""Weights that share a scale in NF4."""


def quantization(kind: str | None, config: Any, compute_dtype: torch.dtype, device: torch.device) -> Any:
    """transformers' configuration for `nf4` or `int8` of a model with this config; None for None. Raises MissingExtra.

    int8 goes without its outlier columns: which they are is decided over all rows of a batch, so that a row's numbers
    would depend on its neighbours, and a pack would differ from its rows.
    """
    if kind is None:
        return None
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise MissingExtra("bitsandbytes", "quantize", f"model.quantize={kind}") from None
    from transformers import BitsAndBytesConfig

    if kind == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=compute_dtype,
        llm_int8_skip_modules=_left_whole(config, device),
    )


def _left_whole(config: Any, device: torch.device) -> list[str] | None:
    """On CPU, the layers whose inputs are no multiple of 64, and the head; None where there is no such layer.

    bitsandbytes 0.50's CPU kernel takes the scale of another block where a row of a weight does not end with one, and
    says nothing: weights come back up to twice as large.
    """
    from transformers import AutoModelForCausalLM

    if device.type != "cpu":
        return None
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    linear = [(name, m) for name, m in model.named_modules() if isinstance(m, (torch.nn.Linear, Conv1D))]
    ragged = [name for name, m in linear if m.weight.shape[0 if isinstance(m, Conv1D) else 1] % BLOCK]
    head = model.get_output_embeddings()
    return [*ragged, *(name for name, m in linear if m is head)] if ragged else None


def settle(model: Any) -> list[str]:
    """One way to compute, and one layout of weights, for training and for answers. Returns what should be told.

    On a CPU with bfloat16 instructions the first answer without gradients would lay 4-bit weights out anew, and
    training would go on with what that left; 8-bit layers would answer by other products than they train with.
    """
    left = 0
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
        elif type(module).__name__ == "Linear8bitLt" and module.weight.device.type == "cpu":
            module.training = True
            module.train = lambda mode=True, module=module: module
        left += type(module) is torch.nn.Linear and module is not model.get_output_embeddings()
    return [f"{left} layers stay whole: their inputs are no multiple of {BLOCK}"] if left else []
