"""`whet preflight`: what becomes of the rows, and which of their tokens are learnt, before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from whet.cli.train import recipe_of
from whet.errors import RowError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.text import Text

    from whet.rows import Row


def preflight(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[RECIPE.yaml] [key=value ...]", help="e.g. model=NAME data=my.jsonl")
    ] = None,
    row: Annotated[
        int | None, typer.Option("--row", min=1, help="Show this training row alone, counted from 1.")
    ] = None,
    count: Annotated[int, typer.Option("--rows", min=0, help="Show so many training rows.")] = 3,
) -> None:
    """Count what would be cut, dropped or not learnt, and show rows as the model sees them. Nothing is trained."""
    from rich.console import Console

    from whet.models.load import load_config, load_tokenizer
    from whet.train.preflight import check, show
    from whet.train.start import max_length_of, rows_of

    recipe = recipe_of(words or [])
    tokenizer = load_tokenizer(recipe.model)
    prepared = rows_of(recipe, tokenizer, max_length_of(recipe, load_config(recipe.model))).prepared
    console = Console(highlight=False)
    show(prepared.ledger, console)
    if row is not None and row > len(prepared.train):
        raise RowError(f"there is no training row {row}", where="--row", do=f"give 1 to {len(prepared.train)}")
    numbers = [row] if row is not None else range(1, min(count, len(prepared.train)) + 1)
    show_rows([(number, prepared.train[number - 1]) for number in numbers], tokenizer, console)
    check(prepared.ledger, recipe)


def show_rows(rows: Sequence[tuple[int, Row]], tokenizer: Any, console: Console) -> None:
    """Print numbered rows as text with their learnt tokens set off: by colour, or by «» where there is none."""
    from rich.text import Text

    if not rows:
        return
    coloured = console.color_system is not None
    legend = Text("\nlearnt: ").append("like this" if coloured else "«like this»", "bold green" if coloured else "")
    console.print(legend + Text("; context: ") + Text("like this", "dim" if coloured else ""))
    for number, row in rows:
        head = f"\nrow {number}, {row.place}: {len(row):,} tokens, {row.target_count:,} learnt"
        console.print(Text(head + (f", weight {row.weight:g}" if row.weight != 1 else ""), "bold"), soft_wrap=True)
        console.print(row_text(row, tokenizer, coloured), soft_wrap=True)


def row_text(row: Row, tokenizer: Any, coloured: bool) -> Text:
    """The row decoded, special tokens included, learnt spans set off. The first token is never learnt."""
    from rich.text import Text

    text = Text()
    learnt = row.targets.copy()
    learnt[:1] = False
    begin = 0
    for end in range(1, len(row) + 1):
        if end < len(row) and learnt[end] == learnt[begin]:
            continue
        # A span is decoded behind the token before it: alone it may lose its leading blank.
        before = tokenizer.decode(row.ids[max(begin - 1, 0) : begin], clean_up_tokenization_spaces=False)
        span = tokenizer.decode(row.ids[max(begin - 1, 0) : end], clean_up_tokenization_spaces=False)[len(before) :]
        if coloured:
            text.append(span, "bold green" if learnt[begin] else "dim")
        else:
            text.append(f"«{span}»" if learnt[begin] else span)
        begin = end
    return text
