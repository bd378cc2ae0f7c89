"""Where adapters stand in a model that is known by its behaviour, not by its class.

Layers are the one list of as many modules as the config has layers. Attention and feed-forward are known by the names
that transformers gives them. What feeds the feed-forward is seen in a pass over two tokens, in which every module that
is to be hooked must be called exactly once.
"""

from __future__ import annotations

import inspect
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from whet.errors import ModelError
from whet.methods.bottleneck.modules import first_tensor

ATTENTION = ("self_attn", "attn", "attention", "self_attention")
FEED_FORWARD = ("mlp", "feed_forward", "block_sparse_moe", "moe", "ffn")

PLACES = {"houlsby": ("attention", "feed_forward"), "pfeiffer": ("layer",), "parallel": ("parallel",)}
"""Of each variant, in a layer: after attention, after the feed-forward, after the layer, beside the feed-forward."""


@dataclass(frozen=True)
class Target:
    """A module whose output is changed, and the one whose input an adapter beside it reads."""

    module: nn.Module
    source: nn.Module


def decoder_layers(model: Any) -> list[nn.Module]:
    """The model's layers, in order. Raises ModelError where they cannot be told."""
    count = int(model.config.get_text_config().num_hidden_layers)
    found: dict[str, nn.ModuleList] = {}
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)  # experts, say, of which there are as many
        if isinstance(module, nn.ModuleList) and len(module) == count and not inside:
            found[name] = module
    if len(found) != 1:
        what = f"{len(found)} lists of {count} modules ({', '.join(found)})" if found else f"no list of {count} modules"
        raise ModelError(
            f"the model's layers cannot be told: it has {what}", where=type(model).__name__, do="take method=lora"
        )
    return list(*found.values())


def targets(model: Any, variant: str) -> list[dict[str, Target]]:
    """For each layer, the modules of each of the variant's places.

    Raises ModelError where a layer has no part of a known name, or the parts do not work as they do elsewhere.
    """
    layers = decoder_layers(model)
    found = [{place: _module(layer, place, number) for place in PLACES[variant]} for number, layer in enumerate(layers)]
    if next(model.parameters()).is_meta:  # nothing runs there, but parameters can be counted
        return [{place: Target(module, module) for place, module in modules.items()} for modules in found]
    calls = _calls(model, layers, [module for modules in found for module in modules.values()])
    counts = Counter(id(call.module) for call in calls)
    out = []
    for number, modules in enumerate(found):
        for place, module in modules.items():
            if counts[id(module)] != 1:
                raise _unknown(number, place, f"is called {counts[id(module)]} times in a pass", layers[number])
        out.append({place: Target(module, _source(calls, layers[number])) for place, module in modules.items()})
    return out


def _module(layer: nn.Module, place: str, number: int) -> nn.Module:
    if place == "layer":
        return layer
    module = _child(layer, ATTENTION if place == "attention" else FEED_FORWARD)
    if module is None:
        raise _unknown(number, place, f"is none of {', '.join(name for name, _ in layer.named_children())}", layer)
    if "residual" not in inspect.signature(module.forward).parameters:
        return module
    # It adds the residual itself (Bloom does): the sub-layer's own output is that of its last linear module.
    return [part for part in module.modules() if isinstance(part, nn.Linear)][-1]


def _child(layer: nn.Module, names: tuple[str, ...]) -> nn.Module | None:
    return next((child for name, child in layer.named_children() if name in names), None)


def _source(calls: list[_Call], layer: nn.Module) -> nn.Module:
    """The norm before the feed-forward, or the feed-forward where there is none: its input is the residual stream."""
    feed_forward = _child(layer, FEED_FORWARD)
    if feed_forward is None:
        return layer
    taken = next((call.input for call in calls if call.module is feed_forward), None)
    children = {id(child) for child in layer.children()}
    made = (call.module for call in calls if id(call.module) in children and call.output is taken)
    return next(made, feed_forward)


@dataclass(frozen=True)
class _Call:
    module: nn.Module
    input: Any
    output: Any


def _calls(model: Any, layers: list[nn.Module], modules: list[nn.Module]) -> list[_Call]:
    """Every call of the layers' children and of `modules`, in a pass over two tokens. Tensors are kept, so that two are
    the same one only if they are."""
    calls: list[_Call] = []

    def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        calls.append(_Call(module, first_tensor(args, kwargs), output))

    watched = {id(module): module for module in [*(c for layer in layers for c in layer.children()), *modules]}
    hooks = [module.register_forward_hook(record, with_kwargs=True) for module in watched.values()]
    training = [module for module in model.modules() if module.training]
    try:
        model.eval()
        device = model.get_input_embeddings().weight.device
        with torch.no_grad():
            ids_1L = torch.zeros(1, 2, dtype=torch.int64, device=device)
            model(input_ids=ids_1L, attention_mask=torch.ones_like(ids_1L), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
        for module in training:
            module.training = True
    return calls


def _unknown(number: int, place: str, what: str, layer: nn.Module) -> ModelError:
    part = {"attention": "the attention", "layer": "the layer"}.get(place, "the feed-forward")
    return ModelError(
        f"{part} of layer {number} ({type(layer).__name__}) {what}",
        where="method.variant",
        do="take method.variant=pfeiffer, which asks for the layer alone" if place != "layer" else "take method=lora",
    )
