"""`whet merge`: several LoRA runs on one base made into one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from whet.errors import RecipeError


def merge(
    runs: Annotated[list[Path], typer.Argument(help="Two or more run folders.", metavar="RUN RUN ...")],
    output: Annotated[Path, typer.Option(help="The new run's folder.")],
    weights: Annotated[str | None, typer.Option(help="A factor for each run: .7,.3. Else the mean.")] = None,
    combination: Annotated[
        str,
        typer.Option(help="linear, svd, ties, dare_linear, dare_ties, ties_svd, dare_linear_svd or dare_ties_svd."),
    ] = "linear",
    density: Annotated[float | None, typer.Option(help="Share of each change that TIES and DARE keep.")] = None,
    rank: Annotated[
        int | None, typer.Option(help="Of the result, for svd and its kin. Else the runs' largest.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of what DARE drops.")] = 0,
) -> None:
    """Combine LoRA runs on one base, by weight, into a new run."""
    factors = None if weights is None else _numbers(weights)
    from whet.train import merge as merging

    folder = merging.merge(
        runs,
        factors,
        combination,  # type: ignore[arg-type]  # checked there, with the names that are known
        output=output,
        density=density,
        rank=rank,
        seed=seed,
    )
    typer.echo(f"{folder}: {combination} of {', '.join(map(str, runs))}")
    typer.echo(f"talk with it: whet chat {folder}")


def _numbers(text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise RecipeError(f"{text!r} are no numbers", where="--weights", do="such as --weights .7,.3") from None
