"""The folder of an advice: recipe.yaml, advice.json and report.html, and the tables that screen and page share."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from whet.advise.advice import Advice
from whet.advise.memory import PARTS
from whet.advise.pilot import Line, Pilot
from whet.advise.plots import plots_of
from whet.advise.verdict import Interval
from whet.errors import RunError, StorageError
from whet.look import css
from whet.look.units import count, duration, figure, scientific, size
from whet.recipe import recipe_yaml

Rows = tuple[list[str], list[list[str]]]
"""A header and lines of text."""


def claim(folder: Path) -> Path:
    """The folder, made. Raises RunError where it holds something, StorageError where it cannot be made."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError("it is not empty", where=f"--output {folder}", do="name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot be made: {error.strerror}", where=f"--output {folder}", do="name another") from None
    return folder


def write(advice: Advice, folder: Path) -> None:
    """The three files. Raises StorageError."""
    text = files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8")
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(text)
    takes = advice.pilot.recommended if advice.pilot else advice.recipe.method.kind
    tables = [("Signs in the rows", sign_rows(advice)), ("Memory", memory_rows(advice))]
    if advice.pilot is not None:
        tables.insert(0, ("The pilot", pilot_rows(advice.pilot)))
    html = page.render(
        css=css(),
        headline=f"{advice.recipe.model.name}: {takes}",
        reason=advice.reason,
        notices=advice.pilot.notes if advice.pilot else [],
        plots=plots_of(advice.pilot) if advice.pilot else [],
        tables=tables,
        recipe=recipe_yaml(advice.recipe),
        pilot=advice.pilot,
    )
    named = {
        "recipe.yaml": recipe_yaml(advice.recipe),
        "advice.json": json.dumps(advice.tree(), indent=1, ensure_ascii=False),
        "report.html": html,
    }
    try:
        for name, content in named.items():
            (folder / name).write_text(content, encoding="utf-8", errors="replace")
    except OSError as error:
        raise StorageError(f"cannot write: {error.strerror}", where=str(folder), do="free some space") from error


def memory_rows(advice: Advice) -> Rows:
    """A line a way (and way to share devices): the peak of one device, its parts in megabytes, whether it fits."""
    several = advice.machine.devices > 1
    names = [name for name in PARTS if any(option.forecast.parts.get(name) for option in advice.options)]
    fits = f"of {size(advice.machine.bytes_each)}"
    header = ["memory in MB", *(["shared by"] if several else []), "peak", fits, "longest pack", *names]
    rows = []
    for option in advice.options:
        parts = [f"{option.forecast.parts.get(name, 0) / 1e6:,.0f}" for name in names]
        sharing = [option.sharding] if several else []
        fitting = "fits" if option.fits else "too much"
        peak = f"{option.forecast.total / 1e6:,.0f}"
        rows.append([option.name, *sharing, peak, fitting, f"{option.largest_pack:,}", *parts])
    return header, rows


def sign_rows(advice: Advice) -> Rows:
    """A line a sign."""
    return ["sign", "", "suggests"], [[sign.name, _value(sign.value), sign.suggests] for sign in advice.signs]


def _value(value: float) -> str:
    return count(value) if value >= 1 and value == int(value) else figure(value)


def pilot_rows(pilot: Pilot) -> Rows:
    """A line a way: figures with their 95 % intervals over seeds."""
    header = ["way", "trained", "rate", "held-out loss", "bits a byte", "worse than the best by", "time", "peak memory"]
    labels = any(line.accuracy for line in pilot.lines)
    if labels:
        header.insert(5, "accuracy")
    return header, [_pilot_row(line, pilot, labels) for line in pilot.lines]


def _pilot_row(line: Line, pilot: Pilot, labels: bool) -> list[str]:
    mark = " *" if line.name == pilot.recommended else ""
    behind = f"{line.behind.mean:+.3f} ({line.behind.low:+.3f} to {line.behind.high:+.3f})"
    shots = f" ({line.shots:.1f})" if line.shots else ""
    row = [
        line.name + shots + mark, count(line.trained), scientific(line.learning_rate) if line.learning_rate else "",
        _within(line.loss, "{:.3f}".format), _within(line.bits, "{:.3f}".format),
        "" if line.name == pilot.best else behind,
        _within(line.seconds, duration) if line.learning_rate else "", _within(line.peak_bytes, size),
    ]  # fmt: skip
    if labels:
        row.insert(5, _within(line.accuracy, "{:.0%}".format) if line.accuracy else "")
    return row


def _within(interval: Interval, written: Callable[[float], str]) -> str:
    """`0.42 ± 0.03`: the mean, and half the interval where there is one."""
    half = interval.high - interval.mean
    return f"{written(interval.mean)} ± {written(half)}" if half > 0 else written(interval.mean)
