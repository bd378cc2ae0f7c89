"""`whet data`: rows -> rows. `whet data run curate.yaml IN OUT`, or a step alone: `whet data repair IN OUT`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from whet.cli.toxicity import toxic_test, toxic_train

app = typer.Typer(
    no_args_is_help=True,
    help="Curate rows: repair, filter, deduplicate, balance, scrub; with a ledger of every change.",
)

LONGEST_NOTE = 500
"""Characters; a longer note of a step stays in the ledger."""

Ray = Annotated[str | None, typer.Option("--ray", metavar="ADDRESS", help="Run on this Ray cluster.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output if it is there.")]
Embed = Annotated[str | None, typer.Option("--embed", metavar="MODEL", help="For steps that compare by meaning.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]


@app.command("run")
def run(
    recipe: Annotated[str, typer.Argument(metavar="CURATE.yaml", help="Its `steps`, in order.")],
    paths: Annotated[list[str], typer.Argument(metavar="IN... OUT", help="Files, folders, globs; then the output.")],
    ray: Ray = None,
    embed: Embed = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Run a recipe of steps over rows."""
    from whet.data.curation.settings import load_curation

    _curate(load_curation(recipe), paths, ray, embed, overwrite, quiet)


@app.command("steps")
def steps() -> None:
    """List the steps and their settings."""
    from rich.console import Console

    from whet.data.steps import STEPS

    console = Console(highlight=False)
    for name, step in STEPS.items():
        console.print(f"[bold]{name}[/]  {(step.__doc__ or '').strip().splitlines()[0]}")
        for key, field in step.settings.model_fields.items():
            default = "required" if field.is_required() else repr(field.default)
            console.print(f"    {key}: {default}", f"  {(field.description or '').strip()}", style="dim", markup=False)


@app.command("card")
def card(
    paths: Annotated[list[str], typer.Argument(metavar="ROWS... [key=value ...]", help="Files, folders, globs.")],
    output: Annotated[str | None, typer.Option(metavar="STEM", help="Write STEM.html and STEM.md.")] = None,
    against: Annotated[list[str] | None, typer.Option(help="Held-out files, to look for leaks of.")] = None,
    licence: Annotated[str | None, typer.Option(help="To state on the card.")] = None,
    examples: Annotated[bool, typer.Option(help="Show five rows, and the notes beside the file.")] = True,
    tokenizer: Annotated[str, typer.Option(help="Whose tokens lengths are counted in.")] = "whet-tiny",
    quiet: Quiet = False,
) -> None:
    """One page on the rows: sizes, lengths, languages, duplicates, leaks, personal data, toxicity, balance."""
    from pathlib import Path

    from whet.data.card import card as make
    from whet.data.card import write
    from whet.models.load import load_tokenizer
    from whet.recipe import ModelPart
    from whet.recipe.load import set_word

    tree: dict[str, Any] = {}
    for word in (word for word in paths if "=" in word):
        set_word(tree, word)
    rows = [word for word in paths if "=" not in word]
    own = load_tokenizer(ModelPart(name=tokenizer))

    def lengths(texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in own(list(texts), add_special_tokens=False, verbose=False)["input_ids"]]

    made = make(rows, against=against, licence=licence, examples=examples, count_tokens=lengths, quiet=quiet, **tree)
    stem = output or f"{Path(rows[0].rstrip('/')).name.split('.')[0]}.card"
    for path in write(made, stem):
        typer.echo(path)


def one_step(name: str, words: list[str], ray: str | None, embed: str | None, overwrite: bool, quiet: bool) -> None:
    """Run the step `name` alone. Words with `=` are its settings (or `seed`, `columns`, ...), the others paths."""
    from whet.data.curation.settings import Curation, check_curation
    from whet.recipe.load import set_word

    paths = [word for word in words if "=" not in word or "/" in word.split("=")[0]]
    tree: dict[str, Any] = {}
    for word in words:
        if word not in paths:
            set_word(tree, word)
    of_all = {key: tree.pop(key) for key in list(tree) if key in Curation.model_fields and key != "steps"}
    curation = check_curation({**of_all, "steps": [{name: tree}]}, "command line")
    _curate(curation, paths, ray, embed, overwrite, quiet)


def _curate(curation: Any, paths: list[str], ray: str | None, embed: str | None, overwrite: bool, quiet: bool) -> None:
    from rich.console import Console

    from whet.cli.services import embedder, generate, perplexity
    from whet.data.curation.pipeline import curate
    from whet.errors import RecipeError

    if len(paths) < 2:
        raise RecipeError("an input and an output are needed", where="command line", do="whet data STEP IN OUT")
    try:
        lent: dict[str, Any] = {"generate": generate, "perplexity": perplexity}
        if embed is not None:
            lent["embed"] = embedder(embed)
        done = curate(paths[:-1], curation, paths[-1], ray=ray, overwrite=overwrite, quiet=quiet, **lent)
    except KeyboardInterrupt as stop:
        print("stopped; nothing was written", file=sys.stderr, flush=True)
        number = stop.args[0] if stop.args else signal.SIGINT
        os._exit(128 + number)  # daft's threads would abort an orderly exit
    if quiet:
        return
    console = Console(highlight=False)
    reading = done.ledger.reading
    if reading["broken"]:
        console.print(f"{reading['broken']:,} rows could not be read:", style="yellow")
        for place, reason in reading["first_broken"]:
            console.print(f"  {place}: {reason}", style="dim", markup=False, soft_wrap=True)
    for warning in reading["warnings"]:
        console.print(warning, style="yellow", markup=False, soft_wrap=True)
    console.print(done.ledger.table())
    for entry in done.ledger.steps:
        for key, value in entry.notes.items():
            shown = value if len(str(value)) <= LONGEST_NOTE else "in the ledger"
            console.print(f"  {entry.step}: {key} {shown}", style="dim", markup=False, soft_wrap=True)
    rows = f"{done.ledger.rows:,} rows in "
    console.print(rows + ", ".join(done.files[:-2]), markup=False, soft_wrap=True)
    beside = f"dropped rows in {done.files[-2]}, ledger in {done.files[-1]}"
    console.print(beside, style="dim", markup=False, soft_wrap=True)


def _verbs() -> None:
    """One command a step, so that `whet data --help` lists them. Names alone: the steps are imported when one runs."""
    from whet.cli.verbs import VERBS

    for name, help_line in VERBS.items():

        def command(
            words: Annotated[list[str], typer.Argument(metavar="IN... OUT [key=value ...]")],
            ray: Ray = None,
            embed: Embed = None,
            overwrite: Overwrite = False,
            quiet: Quiet = False,
            name: Annotated[str, typer.Option(hidden=True)] = name,
        ) -> None:
            one_step(name, words, ray, embed, overwrite, quiet)

        command.__doc__ = help_line
        app.command(name)(command)


_verbs()
app.command("toxic-train")(toxic_train)
app.command("toxic-test")(toxic_test)
