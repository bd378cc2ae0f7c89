"""The table and the plot of a few-shot measurement, as a page; its figures as JSON; its answers row by row."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from jinja2 import Environment, StrictUndefined

from whet.errors import StorageError
from whet.evaluate.measure import Interval
from whet.fewshot.run import ALL, FIGURES, TUNED, Cell, Fewshot
from whet.look import css, write_whole
from whet.look.plots import HAIRLINE, INK, MUTED, WIDE, Plot, drawn
from whet.look.units import duration

HEADER = ["way", "k", "accuracy (95 %)", "macro F1 (95 %)", "shots", "steps", "seconds"]


def claim(folder: Path) -> Path:
    """The folder, made; StorageError before any work where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(str(error), where=str(folder), do="name another --output") from error
    return folder


def table(found: Fewshot) -> tuple[list[str], list[list[str]]]:
    """Header, and a line a way and k."""
    return HEADER, [_line(cell, found) for cell in found.cells]


def _line(cell: Cell, found: Fewshot) -> list[str]:
    line = [cell.way, "" if cell.k is None else str(cell.k)]
    for name in FIGURES:
        interval = cell.interval(name, found.answers_R)
        line.append(f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})")
    shots = f"{cell.shots:.1f}" if cell.shots else ""
    return [*line, shots, f"{cell.steps:.0f}" if cell.steps else "", f"{cell.seconds:.1f}"]


def write(found: Fewshot, folder: Path) -> Path:
    """fewshot.json, rows.parquet and report.html, each whole or not at all. Returns the page's path."""
    write_whole(folder / "fewshot.json", json.dumps(tree(found), indent=1, ensure_ascii=False))
    pq.write_table(answers(found), folder / "rows.parquet")
    return write_whole(folder / "report.html", page(found))


def tree(found: Fewshot) -> dict[str, Any]:
    """Everything but the rows, as JSON has it."""
    return {
        "model": found.model, "data": found.data, "labels": found.labels, "test_rows": len(found.answers_R),
        "commonest": found.commonest, "k": found.k, "seeds": found.seeds, "seconds": round(found.seconds, 1),
        "cells": [
            {"way": cell.way, "k": cell.k, "shots": cell.shots, "steps": cell.steps, "seconds": cell.seconds}
            | {name: cell.interval(name, found.answers_R).plain() for name in FIGURES}
            for cell in found.cells
        ],
        "notes": found.notes,
        "versions": {"python": platform.python_version(), **{n: version(n) for n in ("whet", "torch", "transformers")}},
    }  # fmt: skip


def answers(found: Fewshot) -> pa.Table:
    """A row a test row, way, k and seed: the label given, the right one, and the labels' log-probabilities."""
    rows = [
        {"place": found.places[row], "way": cell.way, "k": cell.k, "seed": seed,
         "answer": found.labels[int(logps.argmax())], "right": found.labels[int(found.answers_R[row])],
         "logps": [float(value) for value in logps]}
        for cell in found.cells for seed, logps_RL in enumerate(cell.logps_SRL) for row, logps in enumerate(logps_RL)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows)


def page(found: Fewshot) -> str:
    """One page with everything in it: no script, no network."""
    template = files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8")
    header, lines = table(found)
    return Environment(autoescape=True, undefined=StrictUndefined).from_string(template).render(
        css=css(), title=found.model, data=found.data, rows=f"{len(found.answers_R):,}", seeds=found.seeds,
        took=duration(found.seconds), header=header, lines=lines, plots=[plot(found)], notes=found.notes,
        labels=", ".join(found.labels), commonest=f"{found.commonest:.3f}",
    )  # fmt: skip


def plot(found: Fewshot) -> Plot:
    """Accuracy against k: a line a way with its interval, the ways without k as level lines."""
    by_way: dict[str, list[tuple[int, Interval]]] = {}
    level: list[tuple[str, float]] = [("the commonest label", found.commonest)]
    for cell in found.cells:
        interval = cell.interval("accuracy", found.answers_R)
        if cell.k is None:
            level.append((cell.way, interval.value))
        else:
            by_way.setdefault(cell.way, []).append((cell.k, interval))
    marks = ["o", "s", "D", "^", "v", "P"]

    def draw(axes: Any) -> None:
        for number, (way, points) in enumerate(by_way.items()):
            x = [size * (1 + 0.025 * (number - len(by_way) / 2)) for size, _ in points]  # side by side, so all are seen
            y = [interval.value for _, interval in points]
            spread = [[i.value - i.low for _, i in points], [i.high - i.value for _, i in points]]
            tuned = way in TUNED
            axes.errorbar(x, y, yerr=spread, color=INK if tuned else MUTED, marker=marks[number % len(marks)],
                          markersize=5, linewidth=1.4, elinewidth=0.8, linestyle="-" if tuned else "--")  # fmt: skip
            axes.annotate(f" {way}", (x[-1], y[-1]), color=INK, fontsize=10, va="center")
        right = max(found.k)
        for way, value in level:
            axes.axhline(value, color=MUTED if way == ALL else HAIRLINE, linewidth=1.5, zorder=0)
            axes.annotate(way, (min(found.k), value), color=MUTED, fontsize=10, va="bottom")
        axes.set_xscale("log", base=2)
        axes.set_xticks(found.k, [str(size) for size in found.k])
        axes.minorticks_off()
        axes.set_xlim(min(found.k) * 0.9, right * 1.35)
        axes.set_xlabel("rows a label", loc="right")
        axes.set_ylabel("accuracy")

    alt = "; ".join(
        f"{way}: " + ", ".join(f"{i.value:.2f} at {size}" for size, i in points) for way, points in by_way.items()
    )
    return Plot("Accuracy by rows a label", alt, [], [("", drawn("fewshot", WIDE, draw))])
