"""`whet recipe`: what a recipe may say."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

app = typer.Typer(help="What a recipe may say.", no_args_is_help=True)


@app.callback()
def recipe() -> None:
    """What a recipe may say."""


@app.command("schema")
def schema(
    as_json: Annotated[bool, typer.Option("--json", help="JSON Schema, for editors.")] = False,
) -> None:
    """Every key, its default and what it means."""
    from whet.recipe import Recipe

    if as_json:
        typer.echo(json.dumps(Recipe.model_json_schema(), indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    from whet.recipe import settings

    table = Table("key", "kind", "default", "meaning", box=None, pad_edge=False)
    for setting in settings():
        table.add_row(setting.key, setting.kind, setting.default, setting.meaning)
    # A pipe has no width, and the 80 columns that rich takes it for would fold keys and defaults.
    Console(width=None if sys.stdout.isatty() else 200).print(table)
