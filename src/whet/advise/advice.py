"""Advice on a recipe: what fits, what the rows look like, with a pilot what works; and `method: auto` resolved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from whet.advise.fit import Option, options, packs_of, refuse
from whet.advise.machine import Machine, process_bytes, this_machine
from whet.advise.pilot import Pilot, Way, run_pilot, ways_for
from whet.advise.signs import Sign, measure
from whet.advise.trial import open_engine
from whet.errors import RecipeError, RunError
from whet.models.load import load_config
from whet.recipe import AutoPart, LoRAPart, PrefixPart, Recipe, check_recipe
from whet.train.preflight import check
from whet.train.schedule import Schedule
from whet.train.start import max_length_of

SEEDS, STEPS = 3, 60
FEW_ROWS = 500
"""Below, half of LoRA's usual rank."""


@dataclass(frozen=True)
class Advice:
    """`recipe` is what is recommended, ready to run, and `reason` says why in a line."""

    recipe: Recipe
    reason: str
    machine: Machine
    options: list[Option]
    signs: list[Sign]
    pilot: Pilot | None = None

    def tree(self) -> dict[str, Any]:
        """For advice.json."""
        pilot = self.pilot and {
            key: getattr(self.pilot, key)
            for key in ("recommended", "best", "reason", "notes", "seeds", "steps", "held_out")
        } | {"table": [asdict(line) for line in self.pilot.lines]}
        return {
            "reason": self.reason,
            "method": self.recipe.method.model_dump(mode="json"),
            "learning_rate": self.recipe.train.learning_rate,
            "machine": asdict(self.machine),
            "memory": [
                {
                    "way": option.name, "sharding": option.sharding, "fits": option.fits,
                    "bytes": option.forecast.total, "parts": option.forecast.parts, "moment": option.forecast.moment,
                    "trained": option.forecast.counted.trained, "largest_pack": option.largest_pack,
                }
                for option in self.options
            ],
            "signs": [asdict(sign) for sign in self.signs],
            "pilot": pilot,
        }  # fmt: skip


def advise(
    recipe: Recipe,
    pilot: bool = False,
    seeds: int = SEEDS,
    steps: int = STEPS,
    devices: int | None = None,
    say: Callable[[str], None] = lambda text: None,
    done: Callable[[int, int], None] = lambda trials, of: None,
) -> Advice:
    """Look at the recipe's model and rows, and recommend a method. Nothing of the recipe's own method is run.

    Raises ModelError where no method fits the memory, PreflightError and what reading rows and models raises, RunError
    where a pilot can measure nothing, RecipeError for an objective other than sft: no method is compared on others.
    """
    if recipe.objective.kind != "sft":
        raise RecipeError(
            f"advice is for sft, and this recipe learns by {recipe.objective.kind}",
            where="objective.kind",
            do="name a method, such as method=lora, or take advice on the supervised rows",
        )
    machine = this_machine(devices)
    process = process_bytes(machine.device)
    config = load_config(recipe.model)
    base = recipe.model_copy(update={"method": LoRAPart(r=1)})  # an untrained one answers as the model does
    say("looking at the rows")
    engine, rows = open_engine(base, recipe.train.seed)
    check(rows.prepared.ledger, recipe)
    signs = measure(rows.prepared.train, engine, rows.renderer.tokenizer)
    del engine
    say("counting memory")
    lengths, sizes = packs_of(recipe, rows.prepared.train)
    found = options(recipe, config, lengths, machine, process, sizes)
    if not any(option.fits for option in found):
        raise refuse(recipe, found, machine)
    chosen, reason = by_memory(recipe, found, len(rows.prepared.train))
    if not pilot:
        return Advice(chosen, reason, machine, found, signs)
    if not rows.prepared.validation:
        raise RunError(
            "a pilot measures on held-out rows, and there is none", where="validation", do="set validation=0.1"
        )
    parameters = found[0].forecast.counted.parameters
    ways = [way for way in ways_for(recipe, parameters) if _fits(way, found)]
    # Virtual tokens take room of the model's longest length; every trial has the rows that leave it.
    longest = max_length_of(recipe.model_copy(update={"method": PrefixPart()}), config)
    part = recipe.train.model_copy(update={"max_length": longest})
    result = run_pilot(recipe.model_copy(update={"method": LoRAPart(), "train": part}), ways, seeds, steps, say, done)
    tree = result.recipe.model_dump(mode="json")
    tree["train"] |= {"max_length": recipe.train.max_length}
    return Advice(check_recipe(tree, "advise"), result.reason, machine, found, signs, result)


def choose(
    recipe: Recipe,
    say: Callable[[str], None] = lambda text: None,
    done: Callable[[int, int], None] = lambda trials, of: None,
) -> Advice:
    """The advice that stands in for `method: auto`: its recipe has a concrete method. The pilot's runs are no longer
    than the run itself. Raises what `advise` raises."""
    assert isinstance(recipe.method, AutoPart)
    steps = STEPS
    if recipe.train.max_steps is not None:
        steps = min(STEPS, Schedule(1, recipe.train).total_steps)
    return advise(recipe, recipe.method.pilot, steps=steps, say=say, done=done)


def by_memory(recipe: Recipe, found: list[Option], rows: int) -> tuple[Recipe, str]:
    """LoRA where it fits, on a quantized base or with checkpointing where only that does; rank by the number of rows.

    That is the field's rule of thumb: LoRA comes close to full fine-tuning on rows as few as people have (Biderman et
    al. 2024, arXiv 2405.09673, section 4; Schulman et al. 2025, "LoRA Without Regret").
    """
    fitting = [option for option in found if option.fits and option.recipe.method.kind == "lora"]
    if not fitting:
        option = next(option for option in found if option.fits)
        return option.recipe, f"{option.name} is the first that fits this machine's memory"
    option = fitting[0]
    r = 8 if rows < FEW_ROWS else 16
    tree = option.recipe.model_dump(mode="json") | {"method": {"kind": "lora", "r": r}}
    if isinstance(recipe.method, LoRAPart) and option.recipe == recipe:
        return recipe, "the recipe's own LoRA fits this machine's memory"
    name = option.name.replace("r=16", f"r={r}")
    return check_recipe(tree, "advise"), f"{name} fits this machine's memory, and suits {rows:,} rows; no pilot was run"


def _fits(way: Way, found: list[Option]) -> bool:
    """Whether a way's kind of method fits as the recipe stands (ways that train nothing always do)."""
    same = [
        option for option in found if option.recipe.method.kind == way.method["kind"] and option.sharding == "plain"
    ]
    return not way.rates or not same or any(option.fits for option in same)
