"""A card as a page: HTML in the look of whet's reports, and Markdown with the front matter that dataset hubs read."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

from whet.data.card.build import Card
from whet.data.card.plots import plots_of
from whet.look import css, write_whole
from whet.look.units import count, size

EXCERPT = 700
Table = tuple[str, list[str], list[list[str]]]
"""Title, header, lines."""


def write(card: Card, stem: str) -> list[Path]:
    """`stem.html` and `stem.md`, whole or not at all. Raises StorageError."""
    contents = {f"{stem}.html": html(card), f"{stem}.md": markdown(card)}
    return [write_whole(Path(name), text) for name, text in contents.items()]


def html(card: Card) -> str:
    """One page with everything in it: no script, no network. What people wrote is escaped."""
    template = files(__package__).joinpath("card.html.j2").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined).from_string(template).render(
        css=css(), title=card.title, subtitle=subtitle(card), tiles=tiles(card), plots=plots_of(card),
        findings=findings(card), tables=tables(card), examples=examples(card), notes=card.notes, card=card,
    )  # fmt: skip


def markdown(card: Card) -> str:
    """The same in Markdown, but for the plots."""
    front: dict[str, Any] = {"pretty_name": card.title, "size_categories": [_size_category(card.tally.rows)]}
    if card.licence:
        front["license"] = card.licence
    languages = [name for name, _ in next((s.counts for s in card.sections if s.title == "Languages"), [])]
    if languages:
        front["language"] = [name for name in languages if len(name) == 2][:8]
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False).strip(),
        "---",
        "",
        f"# {card.title}",
        "",
        subtitle(card),
        "",
    ]
    lines += [f"- **{name}**: {value}" + (f" ({detail})" if detail else "") for name, value, detail in tiles(card)]
    lines += ["", "## Findings", "", *[f"- {text}" for text in findings(card)]]
    for title, header, rows in tables(card):
        lines += ["", f"## {title}", "", _md_row(header), _md_row(["---"] * len(header)), *map(_md_row, rows)]
    lines += ["", "## Examples"] if card.tally.examples else []
    for text in examples(card):
        fence = "`" * max(3, _longest_ticks(text) + 1)
        lines += ["", f"{fence}json", text, fence]
    for name, text in card.notes:
        lines += ["", f"## {name}", "", *("> " + line for line in text.splitlines())]
    return "\n".join(lines) + "\n"


def subtitle(card: Card) -> str:
    """What it is, in a line."""
    tally = card.tally
    shape, rows = tally.shapes.most_common(1)[0]
    kinds = (
        f"{shape}" if rows == tally.rows else ", ".join(f"{n:,} × {name}" for name, n in tally.shapes.most_common(3))
    )
    files_read = len(card.reading.files)
    return f"{tally.rows:,} rows in {files_read} file{'s' * (files_read != 1)}; {kinds}"


def tiles(card: Card) -> list[tuple[str, str, str]]:
    """(name, figure, detail)."""
    tally, unit = card.tally, card.tally.unit
    whole = tally.quantiles(tally.whole)
    duplicates = sum(card.duplicates.values())
    read = sum(file.get("bytes", 0) for file in card.reading.files)
    found = [
        ("rows", f"{tally.rows:,}", f"{size(read)}, {card.reading.rows + len(card.reading.broken):,} lines read"),
        (unit, count(sum(tally.whole)), f"{tally.characters / max(sum(tally.whole), 1):.1f} characters each"),
        (
            f"{unit} a row",
            f"{whole['median']:,}",
            f"median; 95 % are under {whole['95 %']:,}, the longest {whole['most']:,}",
        ),
        ("duplicates", _share(duplicates, tally.rows), f"{duplicates:,} rows that another one repeats"),
    ]
    for section in card.sections:
        if section.title in ("Personal data", "Toxicity", "Inconsistencies", "Quality"):
            found.append((section.title.lower(), _share(section.rows, tally.rows), f"{section.rows:,} rows flagged"))
    if card.leaks is not None:
        found.append(
            ("leaks", _share(card.leaks[0], tally.rows), f"{card.leaks[0]:,} rows share text with held-out files")
        )
    return found


def findings(card: Card) -> list[str]:
    """What someone should know before training on it, in sentences: what spoils a set first, what is only to be known
    last, and among these the most frequent first."""
    rows = card.tally.rows
    said: list[tuple[int, int, str]] = []
    if card.reading.broken:
        first = card.reading.broken[0][1]
        said.append((0, rows, f"{len(card.reading.broken):,} rows could not be read; the first: {first}"))
    if card.leaks is not None and card.leaks[0]:
        said.append((0, rows, f"{card.leaks[0]:,} rows share text with {', '.join(card.leaks[1])}"))
    if len(card.tally.shapes) > 1:
        said.append((0, rows, f"rows of {len(card.tally.shapes)} shapes; a file should hold one"))
    if number := card.tally.shapes["unmapped"]:
        said.append((0, number, f"{number:,} rows are of no shape that whet trains on as they are: map their columns"))
    for reason, number in card.duplicates.items():
        said.append((0, number, f"{number:,} rows ({_share(number, rows)}) are duplicates: {reason}"))
    for section in card.sections:
        if section.title in ("Languages", "Groups of people"):
            continue
        for reason, number in section.counts[:6]:
            where = f"in {number:,} rows ({_share(number, rows)})" if section.unit == "rows" else f"{number:,} times"
            weight = 2 if reason in ("person", "address", "place") else 1  # the people of stories are persons, too
            said.append((weight, number, f"{section.title}: {reason} {where}"))
    for name, values in card.balance:
        (most, often), *_, (least, seldom) = values.most_common()
        if often >= 10 * seldom:
            said.append((2, 0, f"{name} is uneven: {most!r} {often:,} times, {least!r} {seldom:,} times"))
    if not (card.licence or card.notes or {"licence", "license"} & card.tally.columns.keys()):
        said.append((2, 0, "no licence is stated, in the rows or beside them"))
    return [text for _, _, text in sorted(said, key=lambda one: (one[0], -one[1]))] or ["Nothing was found."]


def tables(card: Card) -> list[Table]:
    """Lengths, columns, what each check found, files."""
    tally = card.tally
    parts = {"prompt": tally.prompt, "answer": tally.answer, "row": tally.whole, "turns a row": tally.turns}
    measured = {name: tally.quantiles(lengths) for name, lengths in parts.items()}
    measured = {name: values for name, values in measured.items() if values}
    names = list(next(iter(measured.values())))
    found: list[Table] = [
        (f"Lengths in {tally.unit}", ["", *names], [[n, *(f"{q:,}" for q in v.values())] for n, v in measured.items()]),
        ("Columns", ["column", "rows", "type", "values"], [_column(name, card) for name in tally.columns]),
    ]
    for section in card.sections:
        of_rows = section.unit == "rows"
        lines = [[what, f"{n:,}", _share(n, tally.rows) if of_rows else ""] for what, n in section.counts]
        found.append((section.title, [section.about, section.unit, ""], lines or [[section.nothing, "", ""]]))
    files_read = [
        [f["path"], size(f["bytes"]) if "bytes" in f else "", f.get("blake2b", "")] for f in card.reading.files
    ]
    found.append(("Files", ["file", "size", "BLAKE2b"], files_read))
    return found


def examples(card: Card) -> list[str]:
    """A few rows, cut."""
    texts = (json.dumps(row, ensure_ascii=False, indent=1) for row in card.tally.examples)
    return [text if len(text) <= EXCERPT else text[:EXCERPT] + " …" for text in texts]


def _column(name: str, card: Card) -> list[str]:
    column = card.tally.columns[name]
    types = ", ".join(f"{kind} {n:,}" if len(column.types) > 1 else kind for kind, n in column.types.most_common())
    values = column.balance(card.tally.rows)
    shown = ", ".join(f"{value} {n:,}" for value, n in values.most_common(6)) if values else ""
    return [name, f"{column.rows:,}", types, shown + (", …" if values and len(values) > 6 else "")]


def _share(number: int, rows: int) -> str:
    if not number:
        return "0 %"
    share = 100 * number / rows
    return f"{share:.1f} %" if share >= 0.1 else "under 0.1 %"


def _size_category(rows: int) -> str:
    bounds = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    return next((name for bound, name in bounds if rows < bound), "n>1M")


def _md_row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _longest_ticks(text: str) -> int:
    import re

    return max((len(run) for run in re.findall("`+", text)), default=0)
