"""The adapter itself, and the places where adapters stand in a layer: modules that work through forward hooks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from whet.methods.bottleneck.config import Config

_NON_LINEARITIES = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


@dataclass
class Adapters:
    """The adapters of one model, by name, and which of them answer, in the order in which they are applied."""

    configs: dict[str, Config] = field(default_factory=dict)
    active: list[str] = field(default_factory=list)
    on: bool = True


class Bottleneck(nn.Module):
    """x [..., D] -> scaling * up(f(down(x))) [..., D]: what one adapter adds. Parameters are float32.

    `up` begins at zero, so that nothing is added; `down` as torch begins a linear layer, without the bias.
    """

    def __init__(self, config: Config, device: torch.device):
        super().__init__()
        self.down = nn.Linear(config.hidden_size, config.bottleneck_size, device=device, dtype=torch.float32)
        self.up = nn.Linear(config.bottleneck_size, config.hidden_size, device=device, dtype=torch.float32)
        self.non_linearity = _NON_LINEARITIES[config.non_linearity]()
        self.scaling = config.scaling
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Under autocast products are taken in its dtype whatever comes in; without, in the parameters' own.
        inside = x if torch.is_autocast_enabled(x.device.type) else x.to(self.down.weight.dtype)
        added = self.up(self.non_linearity(self.down(inside)))
        return (self.scaling * added).to(x.dtype)


class Place(nn.Module):
    """Adapters after a module: its output y becomes y + adapter(y), for each active one in turn.

    Hooks are methods of this module, not closures, so that a copy of the model hooks the copy.
    """

    def __init__(self, adapters: Adapters):
        super().__init__()
        self.state = adapters
        self.adapters = nn.ModuleDict()

    def active(self) -> list[Bottleneck]:
        state = self.state
        return [self.adapters[name] for name in state.active if name in self.adapters] if state.on else []

    def hook(self, module: nn.Module, source: nn.Module) -> None:
        module.register_forward_hook(self.after)

    def after(self, module: nn.Module, args: Any, output: Any) -> Any:
        y, rest = (output[0], output[1:]) if isinstance(output, tuple) else (output, None)
        for adapter in self.active():
            y = self.adapted(y, adapter)
        return y if rest is None else (y, *rest)

    def adapted(self, y: torch.Tensor, adapter: Bottleneck) -> torch.Tensor:
        return y + adapter(y)


class Beside(Place):
    """Adapters beside a module: y becomes y + adapter(x), where x is what goes into `source`, the module itself or the
    norm before it. Several add up."""

    def hook(self, module: nn.Module, source: nn.Module) -> None:
        source.register_forward_pre_hook(self.before, with_kwargs=True)
        module.register_forward_hook(self.after)

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.active():
            self.x = first_tensor(args, kwargs)

    def after(self, module: nn.Module, args: Any, output: Any) -> Any:
        output = super().after(module, args, output)
        self.x = None  # nothing of a batch outlives it
        return output

    def adapted(self, y: torch.Tensor, adapter: Bottleneck) -> torch.Tensor:
        return y + adapter(self.x).to(y.dtype)


def first_tensor(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor | None:
    """A layer's hidden states: the first tensor it is called with."""
    return next((value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)), None)
