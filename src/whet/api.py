"""What Python programs call: `whet.train(...)`. It stands above the rooms, as the command line does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whet.recipe import Part, Recipe, check_recipe
from whet.train import run as runs
from whet.train.folder import free_folder
from whet.train.run import Run

if TYPE_CHECKING:
    from whet.advise import Advice
    from whet.models.load import Loaded


def train(model: str | Loaded, data: str | list[str], *, quiet: bool = False, **settings: Any) -> Run:
    """Train from Python: `train("whet-tiny", "my.jsonl", method=whet.LoRA(r=8), train={"epochs": 1}, output="runs/a")`.

    `settings` are the recipe's keys, as parts or plain dictionaries. Raises what `run` raises.
    """
    tree = {
        key: value.model_dump(exclude_unset=True) | ({"kind": value.kind} if hasattr(value, "kind") else {})
        if isinstance(value, Part)
        else value
        for key, value in settings.items()
    }
    name = model if isinstance(model, str) else model.name
    recipe = check_recipe({"model": name, "data": data, **tree}, where="whet.train")
    return run(recipe, quiet, None if isinstance(model, str) else model)


def run(recipe: Recipe, quiet: bool = False, loaded: Loaded | None = None) -> Run:
    """Train as the recipe says. `method: auto` is resolved first: the reason is told, and kept as `advice.json` in the
    run folder, whose recipe.yaml has the method that was chosen. Raises what `whet.train.run.run` and
    `whet.advise.choose` raise."""
    if recipe.method.kind != "auto":
        return runs.run(recipe, quiet, loaded)
    free_folder(recipe)  # a name that is taken should not cost a pilot
    advice = _choose(recipe, quiet)
    chosen = advice.recipe
    folder = free_folder(chosen)
    try:
        return runs.run(chosen.model_copy(update={"output": _literal(folder)}), quiet, loaded)
    finally:  # also where the run was stopped and will be resumed
        if (folder / "recipe.yaml").is_file():
            text = json.dumps(advice.tree(), indent=1, ensure_ascii=False)
            (folder / "advice.json").write_text(text, encoding="utf-8")


def _choose(recipe: Recipe, quiet: bool) -> Advice:
    from whet.advise import choose
    from whet.advise.progress import watching

    with watching(quiet) as (say, done):
        advice = choose(recipe, say, done)
        say(f"method {advice.recipe.method.kind}: {advice.reason}")
    return advice


def _literal(folder: Path) -> str:
    """The folder as `output` has it: braces are doubled, for they stand for names there."""
    return str(folder).replace("{", "{{").replace("}", "}}")
