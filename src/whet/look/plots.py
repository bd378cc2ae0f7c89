"""Plots as inline SVG that take their colours, and their type, from the page around them.

matplotlib draws with stand-in colours; `inline` swaps them for the page's CSS variables, so that one drawing serves
light and dark. Nothing of pyplot is used: no global state, no display.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

WIDE, NARROW = (13.4, 4.2), (4.2, 2.8)  # inches; at 72 units an inch, one unit is about one pixel of the page

_COLOURS = {  # what matplotlib is told -> what the page is told
    "#010101": "var(--ink)",
    "#020202": "var(--muted)",
    "#030303": "var(--hairline)",
    "#040404": "var(--train)",
    "#050505": "var(--train-raw)",
    "#060606": "var(--held-out)",
    "#070707": "var(--surface)",
}
INK, MUTED, HAIRLINE, TRAIN, RAW, HELD_OUT, SURFACE = _COLOURS
STYLE = {
    "svg.fonttype": "none",  # text stays text: it takes the page's font and can be searched
    "path.simplify": False,
    "font.size": 11,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "text.color": MUTED,
    "axes.edgecolor": HAIRLINE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.linewidth": 1,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": HAIRLINE,
    "grid.linewidth": 1,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.major.pad": 7,
    "ytick.major.pad": 7,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True)
class Plot:
    """One plot of the page. `drawings` are (CSS class, SVG): the same plot for a wide and for a narrow page, or one
    for both. `alt` says in words what is seen."""

    title: str
    alt: str
    legend: list[tuple[str, str]]  # CSS class of the swatch, text
    drawings: list[tuple[str, str]]


def drawn(name: str, inches: tuple[float, float], draw: Callable[[Any], None]) -> str:
    """The inline SVG of what `draw` does with a pair of axes; `name` is the plot's on its page, and seeds its ids."""
    with rc_context({**STYLE, "svg.hashsalt": name}):
        drawing = Figure(figsize=inches, layout="constrained")
        draw(drawing.add_subplot())
        text = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        FigureCanvasSVG(drawing).print_svg(text, metadata=nothing)
    return inline(text.getvalue(), name)


def _rounded(tag: re.Match[str]) -> str:
    """A hundredth of a pixel is enough; texts between tags are numbers that people read."""
    return re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0])


def inline(svg: str, name: str) -> str:
    """matplotlib's file as an element of a page: no prologue, no size but the viewBox, no style sheet of its own (it
    would reach the whole page), its ids under `name`, the page's colours and font."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"| height="[^"]*"(?=[^>]*viewBox)', r"\1", svg, count=2)
    svg = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{name}-", svg)
    svg = re.sub(r" font-family: [^;\"]+;", "", svg)
    svg = re.sub(r"<[^>]*>", _rounded, svg)
    for stand_in, variable in _COLOURS.items():
        svg = svg.replace(stand_in, variable)
    return svg.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1).strip()
