"""`whet methods`: every way to adapt a model, and what each would train of yours."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from whet.errors import WhetError


def methods(
    model: Annotated[str, typer.Argument(help="A name on the hub or a folder; its config is all that is read.")] = (
        "whet-tiny"
    ),
) -> None:
    """List the methods: what they train, parameters for a model, what can be done with the result."""
    import torch
    from pydantic import TypeAdapter
    from rich.console import Console
    from rich.table import Table

    from whet.advise.dry_run import build
    from whet.methods import METHODS
    from whet.models.load import load_config
    from whet.recipe import MethodPart, ModelPart

    config = load_config(ModelPart(name=model))
    table = Table("method", "trains", "source", box=None, pad_edge=False)
    for name in ("parameters", "share", "merges", "quantized base", "packs", "private"):
        table.add_column(name, justify="right")
    misfits: list[str] = []
    for kind, method in METHODS.items():
        settings = {"kind": kind, **({"token_indices": [0]} if kind == "trainable_tokens" else {})}
        try:
            _, counted = build(config, TypeAdapter(MethodPart).validate_python(settings), torch.float32)
            count, share = f"{counted.trained:,}", f"{counted.trained / counted.parameters:.2%}"
        except WhetError as error:
            count, share = "does not fit", ""
            misfits.append(f"{kind} does not fit: {error.what}")
        facts = method.facts
        can = (facts.merges, facts.quantizes, facts.packs, facts.private)
        table.add_row(kind, facts.trains, facts.source, count, share, *("yes" if yes else "-" for yes in can))
    # A pipe has no width, and the 80 columns that rich takes it for would fold every cell.
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(table)
    typer.echo(f"\nParameters with each method's defaults on {model}; trainable_tokens: of one token.")
    for misfit in misfits:
        typer.echo(misfit)
    typer.echo(
        "Choose by method=KIND; `whet recipe schema` lists the settings, `whet advise` measures what each is worth."
    )
