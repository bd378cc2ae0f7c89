"""Which ways to adapt a model fit the memory there is, and how large a pack may be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from whet.advise.dry_run import Counted, Held, build, step
from whet.advise.machine import Machine
from whet.advise.memory import SHARDINGS, Forecast, put_together
from whet.errors import ModelError, RecipeError
from whet.look.units import count, size
from whet.methods import METHODS
from whet.models.load import frozen_dtype
from whet.recipe import Recipe, check_recipe
from whet.rows import Row
from whet.tokens.pack import pack_rows
from whet.train.schedule import Schedule

AUTO_PACK = 2048
"""Tokens of a pack where the recipe leaves it to the engine."""
STEPS_LOOKED_AT = 100
MARGIN = 0.9
"""Of the free memory that a run should take: the forecast may be off, and the machine has other work."""


@dataclass(frozen=True)
class Option:
    """A way to adapt with its forecast. `largest_pack`: tokens that a pack, so also a row, may have."""

    name: str
    recipe: Recipe
    sharding: str
    forecast: Forecast
    fits: bool
    largest_pack: int


def packs_of(recipe: Recipe, rows: Sequence[Row]) -> tuple[list[int], int]:
    """The fullest pack of the first steps, as the engine would cut them: its computed tokens, spread over its rows. And
    how many sizes packs have."""
    limit = AUTO_PACK if recipe.train.pack_tokens == "auto" else recipe.train.pack_tokens
    schedule, fullest = Schedule(len(rows), recipe.train), [1]
    sizes: set[int] = set()
    for number in range(min(STEPS_LOOKED_AT, schedule.total_steps)):
        batch = [rows[i] for i in schedule.rows_of(number)]
        for pack in pack_rows(batch, limit, share=recipe.train.share_prefixes):
            sizes.add(pack.computed_tokens)
            if pack.computed_tokens > sum(fullest):
                shares = min(len(pack.rows), 8)
                fullest = [max(1, pack.computed_tokens // shares)] * shares
    return fullest, len(sizes)


def options(
    recipe: Recipe, config: Any, lengths: Sequence[int], machine: Machine, process: int, sizes: int = 1
) -> list[Option]:
    """Forecasts of full, LoRA, LoRA on a quantized base, prefix-tuning and bottleneck adapters, with and without
    gradient checkpointing, and on several devices by each way to share a model."""
    shardings = SHARDINGS if machine.devices > 1 else ("plain",)
    room = int(machine.bytes_each * MARGIN)
    seen: dict[tuple[str, bool], tuple[Counted, Held]] = {}
    found = []
    for name, way in _ways(recipe):
        dtype = frozen_dtype(way.model, machine.device)
        compute = dtype if way.train.dtype == "auto" else getattr(torch, way.train.dtype)
        key = (way.method.model_dump_json(), way.train.gradient_checkpointing)
        if key not in seen:
            try:
                seen[key] = build(config, way.method, dtype)[1], step(config, way, list(lengths), dtype, compute)
            except RecipeError:
                continue  # prefix-tuning on a model that cannot take it, say
        for sharding in shardings:
            if way.model.quantize and sharding.startswith("zero"):
                continue  # DeepSpeed does not divide 4-bit weights
            whole = put_together(
                way, *seen[key], sum(lengths), process, machine.device, machine.devices, sharding, compute, sizes
            )
            largest = whole.largest_pack(room)
            found.append(Option(name, way, sharding, whole, whole.total <= room, largest))
    return found


def refuse(recipe: Recipe, found: Sequence[Option], machine: Machine) -> ModelError:
    """The error for a model that no method fits, with what would."""
    least = min(found, key=lambda option: option.forecast.total)
    forecast, room = least.forecast, int(machine.bytes_each * MARGIN)
    largest = forecast.largest_pack(room)
    advice = []
    if largest >= 64:
        advice.append(
            f"rows and packs of {largest:,} tokens would fit with {least.name} (train.max_length, train.pack_tokens)"
        )
    fixed = forecast.parts.get("weights", 0)
    rest = forecast.total - fixed
    a_weight = fixed / forecast.counted.parameters
    if room > rest:
        advice.append(f"a model of up to {count((room - rest) / a_weight)} parameters would fit with {least.name}")
    advice.append("more devices that share the model (--devices N)")
    return ModelError(
        f"not enough memory for any method: the least is {size(forecast.total)} ({least.name}), and "
        f"{size(machine.bytes_each)} are free",
        where=recipe.model.name,
        do="; ".join(advice),
    )


def _ways(recipe: Recipe) -> Iterator[tuple[str, Recipe]]:
    quantize = recipe.model.quantize
    kinds: list[tuple[str, dict[str, Any], str | None]] = [
        ("full", {"kind": "full"}, None),
        ("lora r=16", {"kind": "lora"}, None),
        ("lora r=16 on nf4", {"kind": "lora"}, "nf4"),
        ("lora r=16 on int8", {"kind": "lora"}, "int8"),
        ("prefix", {"kind": "prefix"}, None),
        ("bottleneck", {"kind": "bottleneck"}, None),
    ]
    own = recipe.method.model_dump(mode="json")
    if own["kind"] != "auto":
        yield "as the recipe says", recipe
    for name, method, base in kinds:
        if method["kind"] not in METHODS or (quantize and base != quantize):
            continue
        for checkpointing in (False, True):
            tree = recipe.model_dump(mode="json")
            tree["model"] |= {"quantize": base}
            tree["train"] |= {"gradient_checkpointing": checkpointing}
            yield name + (", checkpointing" if checkpointing else ""), check_recipe(tree | {"method": method}, "advise")
