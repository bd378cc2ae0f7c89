"""`whet evaluate`: a model measured on rows. `whet compare`: two models on the same rows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from whet.evaluate.run import Evaluation
    from whet.evaluate.subject import Subject
    from whet.recipe import DataPart

Metrics = Annotated[str, typer.Option("--metrics", help="Names with commas between, or my.py:function.")]
Slices = Annotated[list[str] | None, typer.Option("--slice", help="A column to report by.")]
MaxNewTokens = Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")]
Output = Annotated[Path | None, typer.Option(help="A folder for the result.")]
Columns = Annotated[
    list[str] | None, typer.Argument(metavar="[columns.prompt=NAME ...]", help="As in a recipe's data.")
]
Seed = Annotated[int, typer.Option(min=0, help="Of samples and resamples.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but figures.")]


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run folder, a model's folder or a model's name.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="Rows; `path#500` samples 500.")],
    columns: Columns = None,
    metrics: Metrics = "perplexity",
    slices: Slices = None,
    max_new_tokens: MaxNewTokens = 256,
    output: Output = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Measure a run or any model on rows; every figure with a 95 % interval."""
    from whet.evaluate.result import figures_table, write
    from whet.evaluate.subject import open_subject

    found = _evaluated(open_subject(model), data, columns, metrics, slices, max_new_tokens, seed, quiet)
    print_table(figures_table(found))
    _report(write(found, output or _place(model, data)))


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A run or a model.")],
    b: Annotated[str, typer.Argument(metavar="[B]", help="Another; left out, A's base against A.")],
    data: Annotated[str | None, typer.Argument(metavar="DATA")] = None,
    columns: Columns = None,
    metrics: Metrics = "perplexity",
    general: Annotated[str | None, typer.Option(help="A general set, on which forgetting shows.")] = None,
    max_new_tokens: MaxNewTokens = 256,
    output: Output = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Compare two models on the same rows: differences with intervals, rows won and lost, rows that changed most."""
    from whet.evaluate.compare import compare as differences
    from whet.evaluate.result import difference_table, write
    from whet.evaluate.subject import open_subject

    if data is not None and "=" in data and not Path(data).exists():
        columns, data = [data, *(columns or [])], None
    if data is None:  # whet compare RUN DATA
        subjects, data, name = [open_subject(a, base=True), open_subject(a)], b, a
    else:
        subjects, name = [open_subject(a), open_subject(b)], b
    for rows, label in ((data, ""), (general, "general")):
        if rows is None:
            continue
        both = [_evaluated(s, rows, columns, metrics, None, max_new_tokens, seed, quiet) for s in subjects]
        found = differences(both[0], both[1], seed)
        print_table(difference_table(found))
        folder = (output or _place(name, data)).with_name((output or _place(name, data)).name + f"-against{label}")
        _report(write(both[1], folder, found))


def _evaluated(
    subject: Subject, data: str, columns: list[str] | None, metrics: str, slices: list[str] | None,
    max_new_tokens: int, seed: int, quiet: bool,
) -> Evaluation:  # fmt: skip
    from rich.console import Console
    from rich.progress import Progress

    from whet.evaluate.run import evaluate as run

    part = data_part(data, columns)
    names = [name.strip() for name in metrics.split(",") if name.strip()]
    with Progress(console=Console(stderr=True), transient=True, disable=quiet) as bars:
        tasks: dict[str, Any] = {}

        def done(what: str, rows: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(f"{what} of {subject.name}", total=of)
            bars.update(tasks[what], completed=rows)

        return run(subject, part, names, slices=slices or [], max_new_tokens=max_new_tokens, seed=seed, done=done)


def data_part(data: str, columns: list[str] | None) -> DataPart:
    """A path and `columns.prompt=NAME` words as a recipe's data."""
    from whet.recipe import DataPart
    from whet.recipe.faults import check_part
    from whet.recipe.load import set_word

    tree: dict[str, Any] = {"path": data}
    for word in columns or []:
        set_word(tree, word)
    return check_part(DataPart, tree, "command line")


def print_table(table: tuple[str, list[str], list[list[str]]]) -> None:
    from rich.console import Console
    from rich.table import Table

    title, header, lines = table
    shown = Table(box=None, header_style="bold", pad_edge=False, title=title, title_justify="left")
    for number, name in enumerate(header):
        shown.add_column(name, justify="left" if number == 0 else "right", overflow="fold")
    for line in lines:
        shown.add_row(*line)
    Console(highlight=False).print(shown)


def _place(model: str, data: str) -> Path:
    """Where a result goes: into the run's folder, or evaluations/ here for a model."""
    name = re.sub(r"[^\w.-]+", "-", Path(data.split("#")[0]).stem) or "rows"
    run = Path(model).expanduser()
    if (run / "recipe.yaml").is_file():
        return run / "evaluations" / name
    return Path("evaluations") / re.sub(r"[^\w.-]+", "-", model.strip("/")) / name


def _report(path: Path) -> None:
    typer.echo(f"report: {path}")
