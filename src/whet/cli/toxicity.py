"""`whet data toxic-train`, `toxic-test`: make a classifier of labelled rows, and measure a scorer on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console


def toxic_train(
    paths: Annotated[list[str], typer.Argument(metavar="ROWS...", help="Files or folders of labelled rows.")],
    text: Annotated[str, typer.Option(metavar="COLUMN", help="Holds the text.")],
    label: Annotated[str, typer.Option(metavar="COLUMN", help="Holds the label.")],
    output: Annotated[str, typer.Option(metavar="FOLDER", help="A new folder.")],
    toxic: Annotated[
        str, typer.Option(metavar="VALUE,VALUE", help="The labels that count as toxic. None: labels are 0 and 1.")
    ] = "",
    name: Annotated[str, typer.Option(help="What it finds; goes into the column `toxic`.")] = "toxic",
    licence: Annotated[str, typer.Option(help="Of the rows; for the card.")] = "",
    seed: Annotated[int, typer.Option(help="Of the split into training, validation and held-out texts.")] = 0,
) -> None:
    """Train a small classifier of texts on labelled rows, with a card of how good it is."""
    from rich.console import Console

    from whet.data.toxicity.training import train_classifier

    console = Console(highlight=False)
    with console.status("reading ...") as status:
        trained = train_classifier(
            paths, text, label, output, toxic=_listed(toxic), name=name,
            licence=licence, seed=seed, told=lambda line: status.update(f"{line} ..."),
        )  # fmt: skip
    _print_figures(console, trained.figures)
    console.print(f"the card is {output}/README.md; next: whet data toxic IN OUT scorer={output}", soft_wrap=True)


def toxic_test(
    paths: Annotated[list[str], typer.Argument(metavar="ROWS...", help="Files or folders of labelled rows.")],
    text: Annotated[str, typer.Option(metavar="COLUMN", help="Holds the text.")],
    label: Annotated[str, typer.Option(metavar="COLUMN", help="Holds the label.")],
    scorer: Annotated[str, typer.Option(metavar="FOLDER", help="lexicon, or a folder of toxic-train.")] = "lexicon",
    toxic: Annotated[
        str, typer.Option(metavar="VALUE,VALUE", help="The labels that count as toxic. None: labels are 0 and 1.")
    ] = "",
    by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Rates for each value of it; `group`: for each group named.")
    ] = None,
    held_out: Annotated[bool, typer.Option("--held-out", help="Only the texts that toxic-train holds out.")] = False,
    seed: Annotated[int, typer.Option(help="Of that split.")] = 0,
    above: Annotated[float, typer.Option(help="A text is called toxic from here on.")] = 0.5,
) -> None:
    """Measure a scorer on labelled rows: precision, recall, F1, AUROC, and wrong calls by group."""
    from rich.console import Console
    from rich.table import Table

    from whet.data.toxicity.scorers import judge

    console = Console(highlight=False)
    found = judge(
        paths, text, label, scorer, toxic=_listed(toxic), by=by, held_out=held_out, seed=seed, threshold=above
    )
    _print_figures(console, found.figures)
    if by:
        table = Table(by, "texts", "toxic", "called though not toxic", "recall", box=None, pad_edge=False)
        for value, counts in found.by.items():
            negatives, positives = counts.fp + counts.tn, counts.tp + counts.fn
            shares = (
                str(counts.false_positive_rate) if negatives else "",
                str(counts.recall) if positives else "",
            )
            table.add_row(value or "(none)", str(negatives + positives), str(positives), *shares)
        console.print(table)


def _listed(words: str) -> list[str]:
    return [word for word in words.split(",") if word]


def _print_figures(console: Console, figures: dict[str, Any]) -> None:
    console.print(f"{figures['texts']:,} texts, {figures['positives']:,} toxic")
    for figure in ("precision", "recall", "f1", "false positive rate", "auroc"):
        console.print(f"  {figure:20}{figures[figure]}", markup=False)
    console.print(f"  {'calibration error':20}{figures['calibration error']:.3f}")
