"""The plots of an evaluation: how each metric lies over the rows, and how far probabilities can be believed."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from whet.evaluate.measure import Measured
from whet.evaluate.run import Evaluation
from whet.look.plots import HAIRLINE, HELD_OUT, NARROW, TRAIN, Plot, drawn
from whet.look.units import figure

MOST = 6


def plots_of(evaluation: Evaluation) -> list[Plot]:
    """A distribution for each metric whose rows have more than two values, and a reliability curve."""
    found = [plot for one in evaluation.measured if (plot := _over_rows(one)) is not None][:MOST]
    return found + [_reliability(one) for one in evaluation.measured if one.notes.get("reliability")]


def _over_rows(one: Measured) -> Plot | None:
    values = one.values_R[np.isfinite(one.values_R)]
    if len(np.unique(values)) <= 2 or one.notes.get("reliability"):  # a reliability curve says more
        return None
    low, high = np.quantile(values, [0, 0.99])  # a few rows far off would press the others together
    inside = values[values <= high]

    def draw(axes: Any) -> None:
        axes.hist(inside, bins=30, color=TRAIN)
        axes.axvline(one.value(), color=HELD_OUT, linewidth=1.5)
        axes.set_ylabel("rows")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))

    middle = figure(float(np.median(values)))
    alt = f"{one.name} of the rows from {figure(float(low))}, median {middle}, 99 % under {figure(float(high))}"
    title = one.name.replace("_", " ") + " by row"
    return Plot(title, alt, [("held-out", "over all rows")], [("", drawn(f"rows-{one.name}", NARROW, draw))])


def _reliability(one: Measured) -> Plot:
    curve = one.notes["reliability"]

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=HAIRLINE, linewidth=1.5)
        sizes = [20 + 180 * point["rows"] / max(p["rows"] for p in curve) for point in curve]
        axes.scatter([p["confidence"] for p in curve], [p["accuracy"] for p in curve], s=sizes, color=TRAIN)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("probability of the answer", loc="right")
        axes.set_ylabel("right")

    alt = "; ".join(f"{p['confidence']:.2f}: right {p['accuracy']:.2f} of {p['rows']:,} rows" for p in curve)
    return Plot("Calibration", alt, [], [("", drawn("reliability", NARROW, draw))])
