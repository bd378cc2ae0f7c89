"""An adapter written into the weights, and proof that every layer took it as it was.

The gate's logits would show a merge that is wrong as a whole, but hardly one weight of a million that is twice too
large. So each adapted layer is asked before and after, on random inputs: there one weight is a share of one output.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from whet.methods.lora import is_tied
from whet.models.export.gate import Gate

_TOLERANCE = 2e-5  # of the layer's largest output, float32
_PROBES = 16  # random inputs of a layer


def merge(model: Any, method: Any, gate: Gate) -> Any:
    """The plain model that a method's `merge` makes of an adapted one in float32.

    Raises RunError where a layer answers otherwise than before.
    """
    tied = is_tied(model.get_base_model())
    _untie_where_adapted(model)
    inputs, before = {}, {}
    for name, module in _adapted(model):
        inputs[name] = _input(module)
        before[name] = _answer(module, inputs[name])
    merged = method.merge(model)
    worst = 0.0
    for name, expected in before.items():
        found = _answer(merged.get_submodule(name), inputs[name])
        difference = float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
        if not difference <= _TOLERANCE:
            gate.at_most(f"merged layer {name}", difference, _TOLERANCE, "of its largest output")
        worst = max(worst, difference)
    gate.at_most(f"{len(before)} merged layers", worst, _TOLERANCE, "of their largest output")
    if tied and not is_tied(merged):
        _tie_or_say_so(merged)
    return merged


def _adapted(model: Any) -> Iterator[tuple[str, Any]]:
    """The layers that peft put something on, by their names in the plain model."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    outer: list[str] = []
    for name, module in model.get_base_model().named_modules():
        inside = any(name.startswith(f"{above}.") for above in outer)
        if isinstance(module, (BaseTunerLayer, AuxiliaryTrainingWrapper)) and not inside:
            outer.append(name)
            yield name, module


def _input(module: Any) -> torch.Tensor:
    """Every id of an embedding; [16, in] random numbers for other layers."""
    layer = module.get_base_layer() if hasattr(module, "get_base_layer") else module.original_module
    if isinstance(layer, torch.nn.Embedding):
        return torch.arange(layer.num_embeddings, device=layer.weight.device)
    conv1d = type(layer).__name__ == "Conv1D"  # GPT-2's, which holds [in, out]
    width = layer.weight.shape[0 if conv1d else -1]
    draw = torch.Generator().manual_seed(0)
    return torch.randn(_PROBES, width, generator=draw).to(layer.weight.device)


def _answer(module: Any, inputs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return module(inputs)  # type: ignore[no-any-return]


def _untie_where_adapted(model: Any) -> None:
    """A head that is tied to the embeddings gets its own matrix where LoRA changes only one of the two: merged into
    the shared one, the change would reach both."""
    from peft.tuners.lora import LoraLayer

    base = model.get_base_model()
    ends = [base.get_input_embeddings(), base.get_output_embeddings()]
    if not any(isinstance(end, LoraLayer) for end in ends):
        return
    layers = [end.get_base_layer() if isinstance(end, LoraLayer) else end for end in ends]
    if layers[1] is not None and layers[0].weight is layers[1].weight:
        layers[1].weight = torch.nn.Parameter(layers[1].weight.detach().clone())


def _tie_or_say_so(model: Any) -> None:
    """Embeddings and head that merging parted: one matrix again where they are equal, else two by the config too, or
    whoever loads it would tie them."""
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if torch.equal(head.weight, embeddings.weight):
        head.weight = embeddings.weight
    else:
        model.config.tie_word_embeddings = False
