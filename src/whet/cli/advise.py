"""`whet advise`: which method fits the memory, suits the rows and, with `--pilot`, works: before anything is spent."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whet.cli.train import recipe_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from whet.advise import Advice


def advise(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[RECIPE.yaml] [key=value ...]", help="e.g. model=NAME data=my.jsonl")
    ] = None,
    pilot: Annotated[bool, typer.Option("--pilot", help="Short real runs of several methods on your rows.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Of each method in the pilot.")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps of each run of the pilot.")] = 60,
    devices: Annotated[int | None, typer.Option(min=1, help="Reckon with so many devices like those here.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for recipe, figures and report.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Recommend a method for a model and rows: memory by part, signs of a domain shift, a pilot; and a recipe."""
    from whet.advise import advise as look
    from whet.advise.page import claim, write
    from whet.advise.progress import watching
    from whet.recipe import recipe_yaml

    recipe = recipe_of(words or [])
    folder = claim(output or Path("runs") / f"advice-{time.strftime('%Y%m%d-%H%M%S')}")
    with watching() as (say, done):
        advice = look(recipe, pilot, seeds, steps, devices, say, done)
    write(advice, folder)
    if as_json:
        typer.echo(json.dumps(advice.tree(), indent=1, ensure_ascii=False))
        return
    from rich.console import Console

    # A pipe has no width; the 80 columns that rich takes it for would fold what the next program wants whole.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 400)
    _show(advice, console)
    typer.echo(f"\n{advice.reason}\n\n{recipe_yaml(advice.recipe)}")
    typer.echo(f"train it: whet train {folder / 'recipe.yaml'}\nreport: {folder / 'report.html'}")


def _show(advice: Advice, console: Console) -> None:
    """The tables: memory, signs, pilot."""
    from whet.advise.page import memory_rows, pilot_rows, sign_rows

    console.print(_table(*memory_rows(advice)))
    console.print()
    console.print(_table(*sign_rows(advice)))
    if advice.pilot is not None:
        console.print()
        console.print(_table(*pilot_rows(advice.pilot)))
        for note in advice.pilot.notes:
            console.print(f"! {note}", markup=False)


def _table(header: list[str], rows: list[list[str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in header:
        table.add_column(Text(name, style="dim"), overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
