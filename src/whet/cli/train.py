"""`whet train`: a recipe, or `key=value` words, or both; or `--resume RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whet.errors import RecipeError

if TYPE_CHECKING:  # pydantic costs a fifth of what `whet --help` may take
    from whet.recipe import Recipe


def train(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[RECIPE.yaml] [key=value ...]", help="e.g. model=NAME data=my.jsonl")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with this run, from its newest checkpoint.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check recipe and rows; train nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Fine-tune a model on your rows."""
    if resume is not None:
        if words or dry_run:
            raise RecipeError("--resume takes the run's own recipe and nothing beside it", where="command line")
        from whet.api import resume as go_on

        done = go_on(resume, quiet=quiet)
        if done.model is None and not quiet:
            typer.echo(f"finished already: {done.folder / 'report.html'}")
        return
    recipe = recipe_of(words or [])
    if dry_run:
        _plan(recipe)
        return
    from whet.api import run

    run(recipe, quiet=quiet)


def recipe_of(words: list[str]) -> Recipe:
    """The recipe of a command line: a first word without `=` is a file, the others are settings."""
    from whet.recipe import load_recipe

    file = words[0] if words and "=" not in words[0] else None
    return load_recipe(file, words[1:] if file else words)


def _plan(recipe: Recipe) -> None:
    """What `train` would do: the resolved recipe, the ledger of rows, and how many steps they make."""
    from rich.console import Console
    from rich.syntax import Syntax

    from whet.models.load import load_config, load_tokenizer
    from whet.recipe import recipe_yaml
    from whet.train.folder import free_folder
    from whet.train.preflight import check, show
    from whet.train.schedule import Schedule
    from whet.train.start import max_length_of, rows_of

    console = Console()
    free_folder(recipe)
    console.print(Syntax(recipe_yaml(recipe), "yaml", background_color="default"))
    config = load_config(recipe.model)
    rows = rows_of(recipe, load_tokenizer(recipe.model), max_length_of(recipe, config))
    show(rows.prepared.ledger, console)
    check(rows.prepared.ledger, recipe)
    schedule = Schedule.of(recipe, len(rows.prepared.train))
    console.print(
        f"{schedule.total_steps} steps of {recipe.train.batch_size} rows; an evaluation every "
        f"{schedule.evaluate_every}, a checkpoint every {recipe.train.checkpoint_every}. Nothing was trained."
    )
