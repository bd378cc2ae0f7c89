"""`whet prompt`: zero-shot and few-shot without training, as a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from whet.cli.evaluate import Columns


def prompt(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model's folder or name.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="Rows with a prompt and a label as their answer.")],
    columns: Columns = None,
    shots: Annotated[
        str, typer.Option(help="Demonstrations; several numbers, with commas between, are searched.")
    ] = "8",
    choose: Annotated[str, typer.Option(help="random, diverse, nearest or mmr.")] = "random",
    similarity: Annotated[str, typer.Option(help="bm25 (by words) or embeddings (by the model).")] = "bm25",
    order: Annotated[str, typer.Option(help="random, nearest-last or nearest-first.")] = "auto",
    balanced: Annotated[bool, typer.Option("--balanced", help="As many of each label as can be.")] = False,
    draws: Annotated[int, typer.Option(min=1, help="Random choices or orders to search among.")] = 1,
    mmr_lambda: Annotated[float, typer.Option(min=0, max=1, help="Of diverse and mmr: 1 is relevance alone.")] = 0.5,
    template: Annotated[str, typer.Option(help="A question in Jinja, from a row's columns.")] = "{{ prompt }}",
    instructions: Annotated[Path | None, typer.Option(help="A text file; a line an instruction, searched.")] = None,
    instruction: Annotated[str, typer.Option(help="One instruction.")] = "",
    labels: Annotated[str | None, typer.Option(help="The answers that there are, with commas between.")] = None,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Contextual calibration of the labels.")] = False,
    validation: Annotated[str, typer.Option(help="A share of the rows, or a file, to search by.")] = "0.2",
    test: Annotated[str | None, typer.Option(help="Rows to measure the best on, never shown or searched by.")] = None,
    budget: Annotated[int | None, typer.Option(min=1, help="Rows scored at most, all candidates together.")] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="The run folder.")] = "runs/{model}-{method}-{time}",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but figures.")] = False,
) -> None:
    """Ask with instructions and demonstrations, nothing trained; search the best and keep it as a run."""
    from rich.console import Console
    from rich.progress import Progress

    from whet.cli.evaluate import data_part, print_table
    from whet.incontext.folder import tables, write
    from whet.incontext.run import prompt as run
    from whet.recipe import InContextPart
    from whet.recipe.faults import check_part

    settings: dict[str, Any] = {
        "choose": choose, "similarity": similarity, "order": order, "balanced": balanced, "mmr_lambda": mmr_lambda,
        "template": template, "calibrate": calibrate, "seed": seed,
        "labels": [label.strip() for label in labels.split(",") if label.strip()] if labels else [],
    }  # fmt: skip
    part = check_part(InContextPart, settings, "command line")
    with Progress(console=Console(stderr=True), transient=True, disable=quiet) as bars:
        tasks: dict[str, Any] = {}

        def done(what: str, rows: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=of)
            bars.update(tasks[what], completed=rows)

        found = run(
            model, data_part(data, columns), part=part, shots=_numbers(shots),
            instructions=_instructions(instructions, instruction), draws=draws, validation=_share(validation),
            test=test, budget=budget, output=output, done=done,
        )  # fmt: skip
    folder = write(found)
    for table in tables(found):
        print_table(table)
    console = Console(highlight=False)
    for note in found.notes:
        console.print(f"! {note}", markup=False)
    typer.echo(f"run: {folder}")


def _numbers(text: str) -> list[int]:
    from whet.errors import RecipeError

    try:
        numbers = [int(number) for number in text.split(",")]
    except ValueError:
        numbers = [-1]
    if min(numbers) < 0:
        raise RecipeError(f"{text!r} are no numbers", where="--shots", do="numbers from 0 on: --shots 0,4,8")
    return numbers


def _share(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _instructions(file: Path | None, one: str) -> list[str]:
    from whet.errors import RecipeError

    if file is None:
        return [one]
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot be read: {error}", where=str(file), do="give a text file in UTF-8") from None
    if not lines:
        raise RecipeError("no instructions in it", where=str(file), do="write one a line")
    return [*([one] if one else []), *lines]
