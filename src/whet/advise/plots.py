"""The plot of a pilot: held-out loss against what it costs, with intervals and names that do not cover each other."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, MaxNLocator

from whet.advise.pilot import Line, Pilot
from whet.advise.verdict import Interval
from whet.look.plots import INK, MUTED, STYLE, TRAIN, Plot, inline
from whet.look.units import count, duration, size

SHAPES: dict[str, tuple[tuple[float, float], tuple[int, int]]] = {
    "wide": ((13.4, 4.6), (1, 3)),
    "narrow": ((4.2, 11.0), (3, 1)),
}
"""Inches, and rows and columns of panels."""
LETTER, LINE = 0.026, 0.065
"""Width and height of a name's letters, as shares of a panel."""


@dataclass(frozen=True)
class _Cost:
    title: str
    of: Callable[[Line], Interval]
    written: Callable[[float], str]


COSTS = [
    _Cost("trained parameters", lambda line: Interval(line.trained, line.trained, line.trained), count),
    _Cost("time of training", lambda line: line.seconds, duration),
    _Cost("peak memory", lambda line: line.peak_bytes, size),
]


def plots_of(pilot: Pilot) -> list[Plot]:
    """One plot of three panels, drawn for a wide and for a narrow page."""
    low = min(line.loss.mean for line in pilot.lines)
    # A way that is far off would press the others together; where it lies is in the table.
    shown = [line for line in pilot.lines if line.loss.mean < 4 * low + 0.5]
    above = [line.name for line in pilot.lines if line not in shown]
    title = "Held-out loss against what it costs" + (f" ({' and '.join(above)}: far above, not shown)" if above else "")
    words = [f"{each.name}: loss {each.loss.mean:.3f}, " + _costs_of(each) for each in shown]
    drawings = [(name, _svg(f"pilot-{name}", pilot.recommended, shown, *shape)) for name, shape in SHAPES.items()]
    return [Plot(title, "; ".join(words), [], drawings)]


def _costs_of(line: Line) -> str:
    return ", ".join(f"{cost.title} {cost.written(cost.of(line).mean)}" for cost in COSTS)


def _svg(name: str, recommended: str, lines: Sequence[Line], inches: tuple[float, float], grid: tuple[int, int]) -> str:
    with rc_context({**STYLE, "svg.hashsalt": name}):
        drawing = Figure(figsize=inches, layout=ConstrainedLayoutEngine(wspace=0.05))
        panels = drawing.subplots(*grid, sharey=True)
        for axes, cost in zip(panels, COSTS, strict=True):
            _panel(axes, cost, lines, recommended)
        panels[0].set_ylabel("nats a token")
        text = io.StringIO()
        FigureCanvasSVG(drawing).print_svg(text, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return inline(text.getvalue(), name)


def _panel(axes: Any, cost: _Cost, lines: Sequence[Line], recommended: str) -> None:
    for line in lines:
        at, colour = cost.of(line), TRAIN if line.name == recommended else MUTED
        across = [[at.mean - max(0.0, at.low)], [at.high - at.mean]]  # nothing costs less than nothing
        up = [[line.loss.mean - line.loss.low], [line.loss.high - line.loss.mean]]
        axes.errorbar([at.mean], [line.loss.mean], yerr=up, xerr=across, fmt="o", color=colour, linewidth=1.2)
    axes.margins(x=0.1, y=0.12)
    if cost.title == "trained parameters":
        largest = max(line.trained for line in lines)
        axes.set_xscale("symlog", linthresh=1e4)
        axes.xaxis.set_major_locator(FixedLocator([0.0, *(10.0**k for k in range(4, 13) if 10**k < 3 * largest)]))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.xaxis.set_major_formatter(lambda value, _: _short(cost.written(value)) if value else "0")
    axes.set_xlabel(cost.title, loc="right")
    _name(axes, [(line.name, cost.of(line).mean, line.loss.mean) for line in lines], recommended)


def _short(number: str) -> str:
    return re.sub(r"\.0+(?=\D)", "", number)


def _name(axes: Any, points: Sequence[tuple[str, float, float]], recommended: str) -> None:
    """Put names beside points, on the side where there is room, as near as other names and points leave it free."""
    axes.autoscale_view()  # matplotlib puts it off, and the transform would be that of empty axes
    to_share = axes.transData + axes.transAxes.inverted()
    shares = [tuple(to_share.transform((x, y))) for _, x, y in points]
    taken = [(x - 0.01, x + 0.01, y) for x, y in shares]
    for (name, *_), (x, y) in zip(points, shares, strict=True):
        left = x + 0.03 + LETTER * len(name) > 1
        begin, end = (x - 0.03 - LETTER * len(name), x - 0.03) if left else (x + 0.03, x + 0.03 + LETTER * len(name))
        steps = sorted(range(-8, 9), key=lambda step: abs(step - 1))  # a little higher, clear of the interval
        free = (y + step * LINE / 2 for step in steps if not _covers(begin, end, y + step * LINE / 2, taken))
        height = next(free, y)
        taken.append((begin, end, height))
        colour = TRAIN if name == recommended else INK
        side = {"ha": "right" if left else "left", "va": "center", "transform": axes.transAxes}
        axes.text(end if left else begin, height, name, color=colour, **side).set_in_layout(False)


def _covers(begin: float, end: float, height: float, taken: Sequence[tuple[float, float, float]]) -> bool:
    return any(begin < right and left < end and abs(height - at) < LINE for left, right, at in taken)
