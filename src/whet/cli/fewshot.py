"""`whet fewshot`: what a handful of labelled rows is worth, in context and tuned, beside zero-shot."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whet.cli.evaluate import Columns, data_part

if TYPE_CHECKING:
    from whet.fewshot.run import Fewshot


def fewshot(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model's folder or name.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="Rows with a prompt and a label as their answer.")],
    columns: Columns = None,
    k: Annotated[str, typer.Option("--k", help="Rows of each label, with commas between.")] = "8,16,32,64",
    seeds: Annotated[int, typer.Option(min=1, help="Each draws its own rows and their order.")] = 5,
    test: Annotated[str, typer.Option(help="How many rows of DATA are kept for the test, or a file.")] = "200",
    ways: Annotated[str | None, typer.Option(help="Names with commas between; all that there are if left out.")] = None,
    all_rows: Annotated[bool, typer.Option("--all", help="Full fine-tuning on all other rows, too.")] = False,
    verbalizer: Annotated[
        list[str] | None, typer.Option("--verbalizer", metavar="LABEL=WORD", help="Say WORD for LABEL.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Most steps of a few-shot trial.")] = 60,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows a step.")] = 8,
    output: Annotated[Path | None, typer.Option(help="A folder for the result.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but figures.")] = False,
) -> None:
    """Zero-shot, in context, calibrated, and tuned on k rows a label, on the same test rows; with intervals."""
    from rich.console import Console
    from rich.progress import Progress

    from whet.errors import RecipeError
    from whet.fewshot.page import claim, table, write
    from whet.fewshot.run import IN_CONTEXT, TUNED
    from whet.fewshot.run import fewshot as run

    words = dict(_pair(word) for word in verbalizer or [])
    try:
        sizes = [int(number) for number in k.split(",")]
    except ValueError:
        raise RecipeError(f"{k!r} are no numbers", where="--k", do="put commas between: --k 8,16") from None
    chosen = [way.strip() for way in ways.split(",")] if ways else [*IN_CONTEXT, *TUNED]
    name = re.sub(r"[^\w.-]+", "-", Path(data.split("#")[0]).stem)
    folder = claim(output or Path("evaluations") / re.sub(r"[^\w.-]+", "-", model.strip("/")) / f"fewshot-{name}")
    with Progress(console=Console(stderr=True), transient=True, disable=quiet) as bars:
        bar = bars.add_task("few-shot", total=None)

        def done(what: str, trials: int, of: int) -> None:
            bars.update(bar, completed=trials, total=of, description=what)

        found = run(
            model, data_part(data, columns), k=sizes, seeds=seeds, ways=chosen, all_rows=all_rows, verbalizers=words,
            test=int(test) if test.isdecimal() else data_part(test, columns), steps=steps, batch_size=batch_size,
            seed=seed, done=done,
        )  # fmt: skip
    _show(found, table(found))
    typer.echo(f"report: {write(found, folder)}")


def _pair(word: str) -> tuple[str, str]:
    label, equals, said = word.partition("=")
    if not equals or not said:
        raise typer.BadParameter(f"{word!r} is not LABEL=WORD")
    return label, said


def _show(found: Fewshot, lines: tuple[list[str], list[list[str]]]) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, header_style="bold", pad_edge=False)
    for number, name in enumerate(lines[0]):
        shown.add_column(name, justify="left" if number == 0 else "right", overflow="fold")
    for line in lines[1]:
        shown.add_row(*line)
    # A pipe has no width; the 80 columns that rich takes it for would fold what the next program wants whole.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    console.print(shown)
    console.print(f"the commonest label alone: {found.commonest:.3f} of {len(found.answers_R):,} test rows")
    for note in found.notes:
        console.print(f"! {note}", markup=False)
