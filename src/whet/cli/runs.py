"""`whet runs`: the runs under a folder, and several of them side by side."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from whet.look.units import MISSING, count, duration, figure, size
from whet.train import runs


class _ListByDefault(TyperGroup):
    """`whet runs FOLDER` is short for `whet runs list FOLDER`; a folder named `compare` is `./compare`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # typer brings its own click, or the real one
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_ListByDefault, help="List the runs under a folder, or compare some of them.")

AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command("list")
def list_runs(
    root: Annotated[Path, typer.Argument(help="The folder to look in.")] = Path("runs"), as_json: AsJSON = False
) -> None:
    """A line a run: model, method, perplexity before and after, speed, time, size."""
    found = runs.list_runs(root)
    if as_json:
        _print_json([dataclasses.asdict(run) for run in found])
        return
    if not found:
        typer.echo(f"no runs under {root}")
        return
    _print_table(
        ["run", "model", "method", "steps", "status", "perplexity", "tokens/s", "time", "size"],
        [_row(r) for r in found],
    )
    for run in found:
        for fault in run.faults:
            typer.echo(f"! {run.path}: {fault}")


@app.command("compare")
def compare_runs(
    folders: Annotated[list[Path], typer.Argument(help="Two or more run folders.", metavar="RUN RUN ...")],
    as_json: AsJSON = False,
) -> None:
    """What differs in the recipes, and the figures side by side with the best marked."""
    comparison = runs.compare(folders)
    if as_json:
        _print_json(dataclasses.asdict(comparison))
        return
    rows = [[row.key, *map(_setting, row.values)] for row in comparison.differences]
    _print_table(["recipe", *comparison.names], rows or [["no difference", *("" for _ in folders)]])
    typer.echo()
    _print_table(["figure", *comparison.names], [_figure_row(row) for row in comparison.figures])
    typer.echo("* best" if any(row.best is not None for row in comparison.figures) else "")
    for note in comparison.notes:
        typer.echo(f"! {note}")


def _row(run: runs.RunInfo) -> list[str]:
    perplexity = f"{figure(run.perplexity_before)} -> {figure(run.perplexity_after)}"
    if run.perplexity_after is None:
        perplexity = MISSING
    return [
        run.name, run.model, run.method, str(run.steps), run.status, perplexity,
        count(run.tokens_per_second), duration(run.seconds), size(run.bytes_on_disk),
    ]  # fmt: skip


def _figure_row(row: runs.Figure) -> list[str]:
    shown = {"peak memory (bytes)": size, "seconds": duration, "steps": count, "trained parameters": count}
    texts = [shown.get(row.name, figure)(value) for value in row.values]
    name = {"peak memory (bytes)": "peak memory", "seconds": "time"}.get(row.name, row.name)
    return [name, *(f"{text} *" if index == row.best else text for index, text in enumerate(texts))]


def _setting(value: Any) -> str:
    """A recipe's value as YAML would have it, on one line."""
    return MISSING if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _print_json(tree: Any) -> None:
    typer.echo(json.dumps(_finite(tree), indent=2, ensure_ascii=False, default=str))


def _finite(tree: Any) -> Any:
    """The same tree with None for numbers that are infinite or none: JSON has no word for them."""
    if isinstance(tree, dict):
        return {key: _finite(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def _print_table(header: list[str], rows: list[list[str]]) -> None:
    """Columns as wide as they need to be: plain text, so that it can be piped. Numbers need no lines between them."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in header:
        table.add_column(Text(name, style="dim"), overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    # A pipe has no width; the 80 columns that rich takes it for would fold what the next program wants whole.
    Console(highlight=False, width=None if sys.stdout.isatty() else 400).print(table)
