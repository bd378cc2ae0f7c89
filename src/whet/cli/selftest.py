"""`whet selftest`: the engine's promises, on the user's own model and machine."""

from __future__ import annotations

from typing import Annotated

import typer


def selftest(
    model: Annotated[str, typer.Argument(help="A name on the hub or a folder.")] = "whet-tiny",
    tolerance: Annotated[float, typer.Option(help="Largest relative difference allowed, float32.")] = 1e-5,
) -> None:
    """Check that packed, shared, chunked, accumulated, resumed and saved all mean the same. Exits with 1 where not."""
    from rich.console import Console
    from rich.table import Table

    from whet.recipe import ModelPart
    from whet.train.selftest import selftest as checks

    console = Console()
    table = Table("promise", "compared", "difference", "allowed", "", box=None, pad_edge=False)
    failed = 0
    with console.status(f"testing {model} ..."):
        for check in checks(ModelPart(name=model), tolerance):
            failed += not check.holds
            verdict = "[green]holds[/]" if check.holds else "[bold red]FAILS[/]"
            table.add_row(check.name, check.how, f"{check.difference:.1e}", f"{check.tolerance:.0e}", verdict)
    console.print(table)
    if failed:
        console.print(f"[bold red]{failed} of the promises do not hold for {model} here.[/]")
        raise typer.Exit(1)
    console.print(f"All promises hold for {model} on this machine.")
