"""`whet rlhf`: from a model to one that people prefer, in one folder that can be gone on with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def rlhf(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="sft, preferences, reward, policy, compare.")],
    check: Annotated[bool, typer.Option("--check", help="Check every stage's recipe; do nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Supervised start, preferences, reward model, policy, comparison; the same command again goes on with it."""
    from rich.console import Console
    from rich.text import Text

    from whet.look.units import figure
    from whet.recipe.rlhf import load_rlhf
    from whet.rlhf import run as stages

    console = Console(highlight=False, quiet=quiet)
    loaded = load_rlhf(recipe)
    if check:
        stages.check(loaded)
        console.print(f"{recipe}: every stage is sound")
        return
    from whet.api import resume, run

    found = stages.circle(
        loaded,
        lambda stage: run(stage, quiet=quiet),
        lambda folder: resume(folder, quiet=quiet),
        lambda text: console.print(Text(f"\n{text}", style="bold"), soft_wrap=True),
    )
    if found.comparison is not None:
        for one in found.comparison.differences:
            console.print(
                f"\n{one.name} on {found.comparison.prompts:,} held-out prompts: {figure(one.a)} -> {figure(one.b)} "
                f"({figure(one.interval.low)} to {figure(one.interval.high)}), {one.verdict}"
            )
        if found.comparison.perplexity:
            console.print(f"perplexity {' -> '.join(map(figure, found.comparison.perplexity))}")
    console.print(Text(f"\npolicy: {found.policy}\nreport: {found.folder / 'report.html'}"), soft_wrap=True)
