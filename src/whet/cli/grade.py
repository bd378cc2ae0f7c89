"""`whet grade`: answers in a file graded, as a reinforcement-learning run would grade them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whet.cli.evaluate import print_table

if TYPE_CHECKING:
    from whet.recipe import GraderPart

NAMED = 3
"""Faults that are shown."""


def grade(
    grader: Annotated[str, typer.Argument(metavar="GRADER", help="A YAML or JSON file: see docs/graders.md.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="Rows with answers; `path#500` samples 500.")],
    answers: Annotated[str, typer.Option(help="The column of answers.")] = "completion",
    output: Annotated[Path | None, typer.Option(help="A folder for the result.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of samples.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but figures.")] = False,
) -> None:
    """Grade the answers in a file of rows: mean, spread and faults by grader; row by row in a folder."""
    from rich.console import Console
    from rich.progress import Progress

    from whet.graders import build
    from whet.graders.result import check_folder, figures_table, grade_rows, write
    from whet.recipe import load_grader

    part = load_grader(grader)
    folder = output or Path("grades") / f"{_plain(grader)}-{_plain(data)}"
    check_folder(folder)
    built = build(part, _reward_models(part), _embedders(part))
    rows = _rows(data, seed)
    with Progress(console=Console(stderr=True), transient=True, disable=quiet) as bars:
        task = bars.add_task(f"grades by {built.name}", total=len(rows))
        graded = grade_rows(built, rows, answers, data, lambda done, of: bars.update(task, completed=done))
    print_table(figures_table(graded))
    for fault in graded.faults[:NAMED]:
        typer.echo(f"! {fault}")
    if len(graded.faults) > NAMED:
        typer.echo(f"! and {len(graded.faults) - NAMED:,} more without a score")
    written = write(graded, part.model_dump(mode="json"), folder)
    if not quiet:
        typer.echo(f"grades: {written}")


def _rows(data: str, seed: int) -> list[dict[str, Any]]:
    """Every column of every row as the file has it, and its `place` where it has no such column itself."""
    import random

    from whet.data.sources import path_and_count, tables

    path, count = path_and_count(data)
    rows = [{"place": place, **columns} for _, records in tables(path, "train") for place, columns in records]
    if count is None or count >= len(rows):
        return rows
    return [rows[n] for n in sorted(random.Random(seed).sample(range(len(rows)), count))]


def _reward_models(part: GraderPart) -> dict[str, Any]:
    """Those that a grader names, opened; without any, torch is not."""
    parts = part.graders.values() if part.type == "multi" else [part]
    if not any(one.type == "reward_model" for one in parts):
        return {}
    from whet.models.reward import open_reward_models

    return dict(open_reward_models(part))


def _embedders(part: GraderPart) -> dict[str, Any]:
    """What turns texts into vectors, for each model that a grader names."""
    from whet.cli.services import embedder

    parts = part.graders.values() if part.type == "multi" else [part]
    names = [one.embedding_model for one in parts if one.type == "text_similarity" and one.embedding_model]
    return {name: embedder(name) for name in names}


def _plain(path: str) -> str:
    return re.sub(r"[^\w.-]+", "-", Path(path.split("#")[0]).stem) or "rows"
