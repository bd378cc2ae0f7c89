"""`whet data toxic-train`: labelled rows -> a classifier for `whet data toxic IN OUT scorer=FOLDER`."""

from __future__ import annotations

from typing import Annotated

import typer


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
            paths, text, label, output, toxic=[value for value in toxic.split(",") if value], name=name,
            licence=licence, seed=seed, told=lambda line: status.update(f"{line} ..."),
        )  # fmt: skip
    figures = trained.figures
    console.print(f"held out: {figures['texts']:,} texts, {figures['positives']:,} toxic")
    for figure in ("precision", "recall", "f1", "false positive rate", "auroc"):
        console.print(f"  {figure:20}{figures[figure]}", markup=False)
    console.print(f"  {'calibration error':20}{figures['calibration error']:.3f}")
    console.print(f"the card is {output}/README.md; next: whet data toxic IN OUT scorer={output}", soft_wrap=True)
