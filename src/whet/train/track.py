"""Experiment trackers, through accelerate: tensorboard, wandb, mlflow, trackio and the others it knows."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import LoggerType

from whet.errors import MissingExtra, RecipeError, did_you_mean
from whet.recipe import Recipe

PACKAGES = {"comet_ml": "comet_ml", "dvclive": "dvclive", "clearml": "clearml", "swanlab": "swanlab"}
"""Where the package is called otherwise than the tracker; elsewhere they share the name."""


def check_trackers(names: list[str]) -> None:
    """Raise RecipeError for a tracker that accelerate does not know, MissingExtra for one that is not installed."""
    known = [kind.value for kind in LoggerType if kind.value != "all"]
    for name in names:
        if name not in known:
            raise RecipeError(
                f"unknown tracker {name!r}.{did_you_mean(name, known)}", where="track", do=f"known: {', '.join(known)}"
            )
        if importlib.util.find_spec(PACKAGES.get(name, name)) is None:
            raise MissingExtra(PACKAGES.get(name, name), "track", f"track: [{name}]")


def start_trackers(accelerator: Accelerator, recipe: Recipe, folder: Path) -> None:
    if recipe.track:
        accelerator.init_trackers(folder.name, config=_flat(recipe.model_dump(mode="json")))


def log_event(accelerator: Accelerator, event: dict[str, Any]) -> None:
    """A line of metrics.jsonl, to every tracker; evaluation figures as evaluation/NAME."""
    figures = event.get("evaluation") or event.get("metrics")
    values = (
        {f"evaluation/{name}": value for name, value in figures.items() if value is not None}
        if figures
        else {f"train/{name}": value for name, value in event.items() if name != "step"}
    )
    accelerator.log(values, step=event["step"])


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`a.b` -> value, values as trackers' configurations take them: numbers and texts."""
    out: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            out.update(_flat(value, f"{prefix}{key}."))
        else:
            out[f"{prefix}{key}"] = value if isinstance(value, (int, float, str, bool)) else str(value)
    return out
