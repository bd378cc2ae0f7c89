"""`whet review`: people judge two answers, blind."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from whet.human.folder import Review

NEW = ("judges", "rubric", "attention", "overlap", "seed", "to")
"""Options that set a review up; one that there is does not change."""


def review(
    context: typer.Context,
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="ANSWERS... | PAIRS | FOLDER",
            help="Answers of two models or more, a file each; rows with two answers each; or a review, to go on with. "
            "`columns.prompt=NAME` as in a recipe's data.",
        ),
    ],
    to: Annotated[Path | None, typer.Option("--to", help="The review's folder.")] = None,
    judges: Annotated[str, typer.Option(help="Names with commas between; each gets a link.")] = "judge",
    rubric: Annotated[str | None, typer.Option(metavar="YAML", help="Questions, each answered by 1 to 5.")] = None,
    attention: Annotated[float, typer.Option(min=0, max=0.5, help="The share of attention checks.")] = 0.05,
    overlap: Annotated[int | None, typer.Option(min=1, help="How many judges see a pair; all if left out.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of order, sides and checks.")] = 0,
    results: Annotated[bool, typer.Option("--results", help="Write FOLDER/results, and serve nothing.")] = False,
    max_failed: Annotated[
        float | None, typer.Option(min=0, max=1, help="Leave out judges who fail a larger share of their checks.")
    ] = None,
    host: Annotated[str, typer.Option(help="Another than this machine's own lets others reach it.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8765,
) -> None:
    """People judge two answers blind, on a web page of this machine; preferences, agreement and strengths come out."""
    from whet.errors import RecipeError
    from whet.human.folder import is_review, open_review

    words = [path for path in paths if path.startswith("columns.")]
    sources = [path for path in paths if path not in words]
    if len(sources) == 1 and is_review(Path(sources[0])):
        given = [name for name in NEW if context.get_parameter_source(name).name == "COMMANDLINE"]  # type: ignore[union-attr]
        if given or words:
            raise RecipeError(
                "a review that is set up does not change", where=f"--{given[0]}" if given else words[0],
                do="leave it out, or set up another with --to",
            )  # fmt: skip
        opened = open_review(Path(sources[0]))
    elif results or not sources:
        raise RecipeError("no review there", where=" ".join(sources), do="whet review FOLDER --results, of a review")
    else:
        opened = _new(sources, words, to, judges, rubric, attention, overlap, seed)
    if results:
        _results(opened, max_failed)
    else:
        _serve(opened, host, port)


def _new(
    sources: list[str], words: list[str], to: Path | None, judges: str, rubric: str | None, attention: float,
    overlap: int | None, seed: int,
) -> Review:  # fmt: skip
    from whet.cli.evaluate import data_part
    from whet.human.folder import create
    from whet.human.pairs import read_answers, read_pairs
    from whet.human.plan import judge_names, read_rubric

    names = judge_names(judges)
    questions = read_rubric(rubric) if rubric else []
    columns = data_part(sources[0], words).columns
    material = read_answers(sources, columns) if len(sources) > 1 else read_pairs(sources[0], columns)
    stem = re.sub(r"[^\w.-]+", "-", "-".join(Path(source.split("#")[0].rstrip("/")).stem for source in sources))
    folder = to or Path("reviews") / stem
    return create(folder, material, names, rubric=questions, attention=attention, overlap=overlap, seed=seed)


def _serve(opened: Review, host: str, port: int) -> None:
    from rich.console import Console

    from whet.human.folder import judgements_of
    from whet.human.serve import serve
    from whet.listen import is_loopback

    console = Console(highlight=False)

    def told(links: Any, notes: Any) -> None:
        for note in [*opened.notes, *notes]:
            console.print(f"! {note}", markup=False, soft_wrap=True)
        if not is_loopback(host):
            console.print(
                f"! {host} can be reached from other machines. Whoever has a link judges in that name, and nothing is "
                "encrypted: links, texts and judgements can be read on the way. Better an SSH tunnel, or TLS in front.",
                markup=False, soft_wrap=True,
            )  # fmt: skip
        pairs = sum(not item.check for item in opened.items.values())
        console.print(f"{opened.folder}: {pairs:,} pairs, {len(opened.items) - pairs:,} attention checks", markup=False)
        for judge, link in links:
            console.print(f"  {judge.name}  {link}", markup=False, soft_wrap=True)
        console.print(
            f"Ctrl-C ends it; every judgement is kept. Then: whet review {opened.folder} --results", markup=False
        )

    with suppress(KeyboardInterrupt):
        serve(opened, host=host, port=port, told=told)
    judged = {(each.judge, each.item) for each in judgements_of(opened)[0]}
    of = sum(len(judge.items) for judge in opened.judges)
    console.print(f"{len(judged):,} of {of:,} judged; go on with: whet review {opened.folder}", markup=False)


def _results(opened: Review, max_failed: float | None) -> None:
    from rich.console import Console

    from whet.cli.evaluate import print_table
    from whet.human.page import tables, write
    from whet.human.results import summed_up

    found = summed_up(opened, max_failed)
    page = write(found)
    for table in tables(found):
        print_table(table)
    console = Console(highlight=False)
    for note in found.notes:
        console.print(f"! {note}", markup=False, soft_wrap=True)
    typer.echo(f"results: {page}")
