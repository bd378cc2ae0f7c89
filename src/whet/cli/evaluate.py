"""`whet evaluate`: a model measured on rows. `whet compare`: two models on the same rows."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whet.errors import RecipeError

if TYPE_CHECKING:
    from rich.progress import Progress

    from whet.evaluate.compare import Comparison
    from whet.evaluate.judge import Judge
    from whet.evaluate.run import Evaluation
    from whet.evaluate.subject import Subject
    from whet.recipe import DataPart, JudgePart

Metrics = Annotated[
    str,
    typer.Option(
        "--metrics",
        help="With commas between: perplexity, choice, classify, exact_match, token_f1, numeric, bleu, chrf, rouge, "
        "accuracy, macro_f1, valid_json, json_schema, fields, citations, length, refusals, stopped, judge, or "
        "my.py:function.",
    ),
]
Slices = Annotated[list[str] | None, typer.Option("--slice", help="A column to report by.")]
MaxNewTokens = Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")]
Output = Annotated[Path | None, typer.Option(help="A folder for the result.")]
Columns = Annotated[
    list[str] | None, typer.Argument(metavar="[columns.prompt=NAME ...]", help="As in a recipe's data.")
]
Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[columns.prompt=NAME ...] [judge.model=NAME ...]", help="As in a recipe."),
]
JudgeFile = Annotated[Path | None, typer.Option("--judge", help="A YAML file: endpoint, model, rubric, scale, ...")]
Seed = Annotated[int, typer.Option(min=0, help="Of samples and resamples.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but figures.")]


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run folder, a model's folder or a model's name.")],
    data: Annotated[str | None, typer.Argument(metavar="[DATA]", help="Rows; `path#500` samples 500.")] = None,
    words: Words = None,
    metrics: Metrics = "perplexity",
    slices: Slices = None,
    labels: Annotated[str, typer.Option(help="Of classify, with commas between; none: the answers of the rows.")] = "",
    task: Annotated[list[Path] | None, typer.Option(help="An lm-eval task file, or a folder of them.")] = None,
    num_fewshot: Annotated[int | None, typer.Option(min=0, help="Of tasks; none: as the file says.")] = None,
    cut: Annotated[bool, typer.Option("--cut", help="Of tasks: cut the beginning of what is too long.")] = False,
    judge: JudgeFile = None,
    max_new_tokens: MaxNewTokens = 256,
    output: Output = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Measure a run or any model on rows, or on lm-eval's task files; every figure with a 95 % interval."""
    if task and data is not None:
        raise RecipeError("rows and --task", where="command line", do="name one of them")
    if not task and data is None:
        raise RecipeError("nothing to evaluate on", where="command line", do="name a file of rows, or --task FILE.yaml")
    from whet.evaluate.benchmark import evaluate_tasks
    from whet.evaluate.judge import Judge
    from whet.evaluate.result import check_folder, figures_table, notes_of, slice_tables, write
    from whet.evaluate.subject import open_subject

    folder = output or _place(model, data or str(task[0] if task else ""))
    check_folder(folder)
    if task:
        subject = open_subject(model)
        with _bars(quiet) as bars:
            found = evaluate_tasks(subject, task, num_fewshot, cut=cut, seed=seed, done=_done(bars, subject.name))
    else:
        part, asked = _settings(str(data), words, judge)
        who = Judge(asked, folder) if asked else None
        given = _names(labels)
        found = _evaluated(open_subject(model), part, metrics, slices, max_new_tokens, seed, quiet, who, labels=given)
    for table in (figures_table(found), *slice_tables(found)):
        print_table(table)
    _notes(notes_of(found))
    _report(write(found, folder))


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A run or a model.")],
    b: Annotated[str, typer.Argument(metavar="[B]", help="Another; left out, A's base against A.")],
    data: Annotated[str | None, typer.Argument(metavar="DATA")] = None,
    words: Words = None,
    metrics: Metrics = "perplexity",
    general: Annotated[str | None, typer.Option(help="A general set, on which forgetting shows.")] = None,
    judge: JudgeFile = None,
    max_new_tokens: MaxNewTokens = 256,
    output: Output = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Compare two models on the same rows: differences with intervals, rows won and lost, rows that changed most. With
    --judge a model prefers one of their answers, asked both ways round."""
    from whet.evaluate.compare import compare as differences
    from whet.evaluate.judge import Judge
    from whet.evaluate.result import check_folder, difference_table, notes_of, write
    from whet.evaluate.subject import open_subject

    if data is not None and "=" in data and not Path(data).exists():
        words, data = [data, *(words or [])], None
    base = data is None  # whet compare RUN DATA
    rows, name = (b, a) if data is None else (data, b)
    sets = [(rows, output or _place(name, rows, "-against"))]
    if general is not None:
        beside = output.with_name(output.name + "-general") if output else _place(name, general, "-general")
        sets.append((general, beside))
    for _, folder in sets:
        check_folder(folder)
    subjects = [open_subject(a, base=True), open_subject(a)] if base else [open_subject(a), open_subject(b)]
    for path, folder in sets:
        part, asked = _settings(path, words, judge)
        who = Judge(asked, folder) if asked else None
        both = [
            _evaluated(s, part, metrics, None, max_new_tokens, seed, quiet, who, answered=who is not None)
            for s in subjects
        ]
        with _bars(quiet) as bars:
            found = differences(both[0], both[1], seed, who, _done(bars, "judge"))
        print_table(difference_table(found))
        if path == general:
            typer.echo(_forgotten(found))
        _notes([*found.notes, *notes_of(both[1])])
        _report(write(both[1], folder, found))


def _settings(data: str, words: list[str] | None, judge: Path | None) -> tuple[DataPart, JudgePart | None]:
    """The rows and the judge that a command line names."""
    from whet.recipe import JudgePart
    from whet.recipe.faults import check_part
    from whet.recipe.load import read_yaml, set_word

    asked: dict[str, Any] = {"judge": read_yaml(judge)} if judge else {}
    for word in words or []:
        if word.startswith("judge."):
            set_word(asked, word)
    part = data_part(data, [word for word in words or [] if not word.startswith("judge.")])
    return part, check_part(JudgePart, asked["judge"], str(judge or "command line"), "judge") if asked else None


def _evaluated(
    subject: Subject, data: DataPart, metrics: str, slices: list[str] | None, max_new_tokens: int, seed: int,
    quiet: bool, judge: Judge | None, answered: bool = False, labels: list[str] | None = None,
) -> Evaluation:  # fmt: skip
    from whet.evaluate.run import evaluate as run

    with _bars(quiet) as bars:
        return run(
            subject, data, _names(metrics), slices=slices or [], labels=labels or [], max_new_tokens=max_new_tokens,
            judge=judge, answered=answered, seed=seed, done=_done(bars, subject.name),
        )  # fmt: skip


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _bars(quiet: bool) -> Progress:
    from rich.console import Console
    from rich.progress import Progress

    return Progress(console=Console(stderr=True), transient=True, disable=quiet)


def _done(bars: Progress, whose: str) -> Callable[[str, int, int], None]:
    """A bar for each kind of work, moved on."""
    tasks: dict[str, Any] = {}

    def done(what: str, rows: int, of: int) -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(f"{what} of {whose}", total=of)
        bars.update(tasks[what], completed=rows)

    return done


def _forgotten(comparison: Comparison) -> str:
    """What the general set says of forgetting, in a line."""
    worse = [one.name for one in comparison.differences if one.better == -1]
    if worse:
        return f"forgetting: worse on the general set by {', '.join(worse)}"
    return "forgetting: none seen on the general set; differences are within noise or gains"


def _notes(notes: list[str]) -> None:
    for note in notes:
        typer.echo(f"! {note}")


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
    from rich.text import Text

    title, header, lines = table
    shown = Table(box=None, header_style="bold", pad_edge=False, title=title, title_justify="left")
    for number, name in enumerate(header):
        shown.add_column(Text(name), justify="left" if number == 0 else "right", overflow="fold")
    for line in lines:
        shown.add_row(*map(Text, line))
    # a pipe has no width; the 80 columns that rich takes it for would fold what the next program wants whole
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(shown)


def _place(model: str, data: str, suffix: str = "") -> Path:
    """Where a result goes: into the run's folder, or evaluations/ here for a model."""
    name = (re.sub(r"[^\w.-]+", "-", Path(data.split("#")[0]).stem) or "rows") + suffix
    run = Path(model).expanduser()
    if (run / "recipe.yaml").is_file():
        return run / "evaluations" / name
    return Path("evaluations") / re.sub(r"[^\w.-]+", "-", model.strip("/")) / name


def _report(path: Path) -> None:
    typer.echo(f"report: {path}")
