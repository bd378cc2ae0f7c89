"""Bottleneck adapters: y + scaling * up(f(down(y))), small networks between the layers of a frozen model.

Houlsby et al. 2019 (arXiv 1902.00751), two a layer; Pfeiffer et al. 2020 (arXiv 2005.00247), one a layer; He et al.
2021 (arXiv 2110.04366), beside the feed-forward. docs/adapters.md says where each stands, and what the files hold. The
model stays a plain transformers model: adapters are modules of its layers (`layer.bottleneck_adapters`) and work by
hooks.

modules.py   the adapter, and its places        config.py   adapter_config.json
places.py    finding the places in a model
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from whet.errors import RunError, did_you_mean
from whet.methods.bottleneck.config import Config
from whet.methods.bottleneck.modules import Adapters, Beside, Bottleneck, Place
from whet.methods.bottleneck.places import PLACES, decoder_layers, targets
from whet.methods.contract import Facts, Given, Method, refuse_new_tokens
from whet.recipe import BottleneckPart

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
DEFAULT = "default"
_STATE = "_bottleneck_adapters"  # attribute of the model: its `Adapters`


def apply(model: Any, part: BottleneckPart, given: Given) -> Any:
    """The same model with a new adapter, named `default`, that is trained; all else is frozen. Adapters that are active
    already stay so, and the new one comes after them.

    Raises RecipeError where the width leaves no unit or there are new tokens to train, ModelError where the model's
    layers are not understood.
    """
    refuse_new_tokens(given, part.kind)
    model.requires_grad_(False)
    _add(model, Config.of(part, model), DEFAULT)
    set_active(model, [*_adapters(model).active, DEFAULT])
    return model


def set_active(model: Any, names: Sequence[str]) -> None:
    """Answer with these adapters: one, or several in the order in which they are applied at each place. None: none.

    Raises RunError for a name that the model has no adapter of.
    """
    known = _adapters(model).configs
    for name in names:
        if name not in known:
            raise RunError(
                f"the model has no adapter {name!r}.{did_you_mean(name, known)}", do=f"it has {', '.join(known)}"
            )
    _adapters(model).active = list(names)


@contextmanager
def disable(model: Any) -> Iterator[None]:
    """Within it, the model answers as it did before."""
    state = _adapters(model)
    before, state.on = state.on, False
    try:
        yield
    finally:
        state.on = before


def save(model: Any, folder: Path, name: str = DEFAULT) -> None:
    """`adapter_config.json` and `adapter_model.safetensors` (float32), as docs/adapters.md lays them out."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {key: parameter.detach().cpu().contiguous() for key, parameter in _parameters(model, name).items()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    _adapters(model).configs[name].write(folder / CONFIG)


def load(model: Any, folder: Path, name: str = DEFAULT) -> Any:
    """The model with a saved adapter, frozen, which alone is active.

    Raises RunError for a file that cannot be read, an adapter of another base (with the first difference), and weights
    that are not those of its config.
    """
    config = Config.read(folder / CONFIG)
    if misfit := config.misfit(model):
        raise RunError(
            misfit, where=str(folder / CONFIG), do=f"put it on {config.base_model_name_or_path}, which it is for"
        )
    weights = _weights(folder / WEIGHTS, config)
    _add(model, config, name)
    with torch.no_grad():
        for key, parameter in _parameters(model, name).items():
            parameter.copy_(weights[key])
            parameter.requires_grad_(False)
    set_active(model, [name])
    return model.eval()


def _weights(path: Path, config: Config) -> dict[str, torch.Tensor]:
    """Read only once names and shapes are the config's."""
    layer = Bottleneck(config, torch.device("meta"))
    wanted = {
        f"layers.{number}.{place}.{key}": list(parameter.shape)
        for number in range(config.num_hidden_layers)
        for place in PLACES[config.variant]
        for key, parameter in layer.named_parameters()
    }
    try:
        with safe_open(path, framework="pt") as file:
            found = {key: list(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        if astray := sorted(found.keys() ^ wanted.keys()):
            has, lacks = ("weights", "config") if astray[0] in found else ("config", "weights")
            raise RunError(f"{astray[0]} is of the adapter's {has} and not of its {lacks}", where=str(path))
        for key, shape in wanted.items():
            if found[key] != shape:
                raise RunError(f"{key} is {found[key]}, and {shape} by the config", where=str(path))
        return load_file(path)  # type: ignore[no-any-return]
    except (OSError, SafetensorError) as error:
        raise RunError(f"cannot be read: {error}", where=str(path)) from None


def _add(model: Any, config: Config, name: str) -> None:
    """Put an adapter into the layers, beside those that are there. Raises RunError for a name that is taken or none."""
    if name in _adapters(model).configs:
        raise RunError(f"the model has an adapter {name!r} already", do="give this one another name")
    if not re.fullmatch(r"[\w-]+", name) or hasattr(nn.ModuleDict, name):
        raise RunError(f"{name!r} cannot be an adapter's name", do="use letters, digits, - and _")
    layers = decoder_layers(model)
    for layer, found in zip(layers, targets(model, config.variant), strict=True):
        if not hasattr(layer, "bottleneck_adapters"):
            layer.bottleneck_adapters = nn.ModuleDict()
        for place, target in found.items():
            if place not in layer.bottleneck_adapters:
                layer.bottleneck_adapters[place] = (Beside if place == "parallel" else Place)(_adapters(model))
                layer.bottleneck_adapters[place].hook(target.module, target.source)
            device = next(layer.parameters()).device
            layer.bottleneck_adapters[place].adapters[name] = Bottleneck(config, device)
    _adapters(model).configs[name] = config


def _adapters(model: Any) -> Adapters:
    """The model's; none at first."""
    if not hasattr(model, _STATE):
        setattr(model, _STATE, Adapters())
    return getattr(model, _STATE)  # type: ignore[no-any-return]


def _parameters(model: Any, name: str) -> dict[str, nn.Parameter]:
    """An adapter's, by their names in its file."""
    return {
        f"layers.{number}.{place}.{key}": parameter
        for number, layer in enumerate(decoder_layers(model))
        for place, module in layer.bottleneck_adapters.items()
        if name in module.adapters
        for key, parameter in module.adapters[name].named_parameters()
    }


METHOD = Method(
    facts=Facts("small networks after or beside attention and feed-forward", "arXiv 1902.00751", private=True),
    apply=apply,
    base=disable,
    save=save,
    load=load,
    switch=set_active,
)
