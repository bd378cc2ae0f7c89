"""`whet export`: a run's result as others load it, compared with the run before it is left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder, a model's folder or a model's name.")],
    to: Annotated[
        Literal["hf", "peft", "gguf", "ollama", "vllm"],
        typer.Option(help="Who is to load it: transformers, peft, llama.cpp, Ollama or vLLM."),
    ] = "hf",
    out: Annotated[Path | None, typer.Option(help="A new folder. Default: export-<to> in the run.")] = None,
    merge: Annotated[
        bool, typer.Option("--merge/--no-merge", help="Write the adapter into the weights, or leave it beside (vllm).")
    ] = True,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"] | None,
        typer.Option(help="Of the weights (hf, vllm). auto: as the model's own files.", show_default="auto"),
    ] = None,
    gguf_type: Annotated[
        Literal["f32", "f16", "bf16", "q8_0"] | None,
        typer.Option(help="Of the matrices (gguf, ollama).", show_default="f16"),
    ] = None,
) -> None:
    """Hand a model over, and prove that it answers as the run does. Where it does not, nothing is left behind."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from whet.models.export.formats import export as write

    console = Console(highlight=False)
    with console.status(f"exporting {run} ..."):
        done = write(run, to, out, merge=merge, dtype=dtype, gguf_type=gguf_type)
    table = Table("check", "found", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for check in done.checks:
        table.add_row(Text(check.name), Text(check.figure))
    console.print(table)
    for note in done.notes:
        console.print(Text(f"! {note}"), soft_wrap=True)
    console.print(Text(f"\n{done.folder} answers as {run} does. Next: {done.next}"), soft_wrap=True)
