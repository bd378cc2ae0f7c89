"""The circle on a page: each stage with its figure, and answers before and after."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from whet.look import css
from whet.look.units import figure
from whet.recipe.rlhf import RLHFRecipe
from whet.rlhf.before_after import Compared
from whet.train.folder import read_summary
from whet.train.runs import verdict

STAGES = {"1-sft": "supervised start", "3-reward": "reward model", "4-policy": "policy"}


def page(recipe: RLHFRecipe, folder: Path, found: Compared | None) -> str:
    """report.html, self-contained but for links to the stages' own reports."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(text).render(
        css=css(), name=folder.name, model=str(recipe.model), stages=_stages(folder), found=found,
        differences=[_line(one) for one in found.differences] if found else [],
        perplexity=[figure(value) for value in found.perplexity] if found and found.perplexity else None,
        figure=figure,
    )  # fmt: skip


def _stages(folder: Path) -> list[dict[str, Any]]:
    """Those that are there, in order."""
    told = []
    for name, meaning in STAGES.items():
        summary = read_summary(folder / name)
        if summary:
            said = verdict(summary, summary.get("validation_rows"))
            told.append({"name": name, "meaning": meaning, "said": said[0].upper() + said[1:]})
    pairs = folder / "2-preferences" / "preferences.jsonl"
    if pairs.is_file():
        with pairs.open(encoding="utf-8") as file:
            count = sum(1 for _ in file)
        told.insert(1 if told and told[0]["name"] == "1-sft" else 0,
                    {"name": "2-preferences", "meaning": "preferences", "said": f"{count:,} pairs"})  # fmt: skip
    return told


def _line(one: Any) -> dict[str, str]:
    interval = f"{figure(one.interval.low)} to {figure(one.interval.high)}"
    return {
        "name": one.name, "before": figure(one.a), "after": figure(one.b), "interval": interval,
        "rows": f"{one.won} / {one.tied} / {one.lost}", "verdict": one.verdict,
    }  # fmt: skip
