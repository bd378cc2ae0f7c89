"""The plots of a run: loss, metrics, learning rate, gradient norm, throughput."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from whet.look.plots import HELD_OUT, NARROW, RAW, SURFACE, TRAIN, WIDE, Plot, drawn
from whet.look.units import figure, scientific
from whet.train.runs import RunFolder

MAX_POINTS = 1000
"""A longer curve is drawn as the means of so many stretches: the page stays small, the curve looks the same."""


MOST_METRICS = 6


def plots_of(run: RunFolder) -> list[Plot]:
    """Loss, the recipe's metrics, learning rate, gradient norm and throughput: those that have a number to show."""
    main = _main_plot(run)
    others = [
        _curve_plot(run, "learning_rate", "Learning rate", scientific, smooth=False),
        _curve_plot(run, "grad_norm", "Gradient norm", "{:.3g}".format, smooth=True),
        _curve_plot(run, "tokens_per_second", "Tokens a second", "{:,.0f}".format, smooth=True),
    ]
    return [plot for plot in (main, *_metric_plots(run), *_objective_plots(run), *others) if plot]


USUAL = {
    "step", "epoch", "loss", "learning_rate", "grad_norm", "rows", "tokens", "computed_tokens", "target_tokens",
    "tokens_per_second", "seconds",
}  # fmt: skip
"""Of a step's line; what else stands there is the objective's own."""


def _objective_plots(run: RunFolder) -> list[Plot | None]:
    """What the objective says of itself at each step: rewards, margins, divergence."""
    shown = USUAL | {main_figure(run)}
    names = list(dict.fromkeys(name for line in run.steps for name in line if name not in shown))
    names = [name for name in names if len({line.get(name) for line in run.steps}) > 1]  # one that stays says nothing
    return [_curve_plot(run, name, name.replace("_", " "), _short, smooth=True) for name in names]


def _metric_plots(run: RunFolder) -> list[Plot | None]:
    """What the recipe's `evaluate` asks for, over the steps it was measured at."""
    lines = [{"step": line["step"], **line["metrics"]} for line in run.metrics]
    names = [name for name in (lines[0] if lines else {}) if name != "step"]
    names = [name for name in names if len({line.get(name) for line in lines}) > 1]  # one that stays says nothing
    measured = replace(run, steps=lines)
    return [_curve_plot(measured, name, name.replace("_", " "), _short, smooth=False) for name in names[:MOST_METRICS]]


def curve(lines: Sequence[dict[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """(steps, values), both [P] float64, of the lines that have a finite number at `key`; P <= MAX_POINTS."""
    found = [
        (line["step"], float(line[key]))
        for line in lines
        if isinstance(line.get(key), (int, float)) and math.isfinite(line[key])
    ]
    if not found:
        return np.empty(0), np.empty(0)
    points_P2 = np.array(found, dtype=np.float64)
    if len(points_P2) > MAX_POINTS:
        points_P2 = np.stack([stretch.mean(axis=0) for stretch in np.array_split(points_P2, MAX_POINTS)])
    return points_P2[:, 0], points_P2[:, 1]


def centred_mean(values_P: np.ndarray) -> np.ndarray:
    """The mean of a window around each point, [P]: a tenth of the curve wide, less at the ends.

    Unlike a moving average it does not lag. At the start, where curves are steep, the window stays symmetric; at the
    end it only loses its right side, so that the last point does not hang on one batch.
    """
    sums = np.concatenate([[0.0], np.cumsum(values_P)])
    at = np.arange(len(values_P))
    left = np.minimum(len(values_P) // 20, at)
    right = np.minimum(left, len(values_P) - 1 - at)
    means_P: np.ndarray = (sums[at + right + 1] - sums[at - left]) / (left + right + 1)
    return means_P


def main_figure(run: RunFolder) -> str:
    """What the large plot is of: the reward where answers are drawn and graded, else the loss."""
    return "reward" if any("reward" in line for line in run.steps) else "loss"


def _main_plot(run: RunFolder) -> Plot | None:
    name = main_figure(run)
    steps_P, losses_P = curve(run.steps, name)
    held_steps, held_losses = curve([{"step": e["step"], **e["evaluation"]} for e in run.evaluations], name)
    if not len(steps_P) and not len(held_steps):
        return None
    best = (run.summary or {}).get("best_step")

    def draw(axes: Any) -> None:
        axes.plot(steps_P, losses_P, color=RAW, linewidth=1, gid="raw")
        if len(steps_P) > 1:
            axes.plot(steps_P, centred_mean(losses_P), color=TRAIN, linewidth=2, gid="smooth")
        style: dict[str, Any] = {
            "color": HELD_OUT,
            "markeredgecolor": SURFACE,
            "markeredgewidth": 1.5,
            "markersize": 7.5,
        }
        axes.plot(held_steps, held_losses, "o-", linewidth=1.5, gid="held-out", **style, zorder=3)
        if best in held_steps:
            at = (best, held_losses[list(held_steps).index(best)])
            axes.annotate(f"best {figure(at[1])}", at, (0, 13), textcoords="offset points", ha="center", color=HELD_OUT)

    legend, alt = [], []
    if len(steps_P):
        legend += [("raw", "training, each step"), ("smooth", "training, smoothed")]
        alt.append(f"Training {name} {_from_to(steps_P, centred_mean(losses_P), figure)}.")
    if len(held_steps):
        legend.append(("held-out", "held-out rows"))
        alt.append(f"Held-out {name} {_from_to(held_steps, held_losses, figure)}.")
    sizes = {"wide": WIDE, "narrow": NARROW}
    drawings = [(name, _svg(f"loss-{name}", inches, draw, "{:g}".format)) for name, inches in sizes.items()]
    return Plot(name.capitalize(), " ".join(alt), legend, drawings)


def _curve_plot(run: RunFolder, key: str, title: str, written: Callable[[float], str], *, smooth: bool) -> Plot | None:
    """A plot of one number of each step."""
    steps_P, values_P = curve(run.steps, key)
    if not len(steps_P):
        return None
    smooth = smooth and len(steps_P) > 1

    def draw(axes: Any) -> None:
        axes.plot(steps_P, values_P, color=RAW if smooth else TRAIN, linewidth=1 if smooth else 2, gid="raw")
        if smooth:
            axes.plot(steps_P, centred_mean(values_P), color=TRAIN, linewidth=2, gid="smooth")
        if values_P.min() >= 0:
            axes.set_ylim(bottom=0)

    alt = f"{title} {_from_to(steps_P, centred_mean(values_P) if smooth else values_P, written)}."
    return Plot(title, alt, [], [("", _svg(key.replace("_", "-"), NARROW, draw, written))])


def _short(value: float) -> str:
    return scientific(value) if abs(value) < 0.001 else f"{value:g}"


def _from_to(steps: np.ndarray, values: np.ndarray, written: Callable[[float], str]) -> str:
    """A curve in words: where it starts and ends, and its bounds where they lie in between."""
    if len(values) == 1:
        return f"is {written(values[0])} at step {steps[0]:.0f}"
    text = f"goes from {written(values[0])} at step {steps[0]:.0f} to {written(values[-1])} at step {steps[-1]:.0f}"
    low, high = values.min(), values.max()
    if high > max(values[0], values[-1]):
        text += f", highest {written(high)} at step {steps[values.argmax()]:.0f}"
    if low < min(values[0], values[-1]):
        text += f", lowest {written(low)} at step {steps[values.argmin()]:.0f}"
    return text


def _svg(name: str, inches: tuple[float, float], draw: Callable[[Any], None], written: Callable[[float], str]) -> str:
    def with_scales(axes: Any) -> None:
        draw(axes)
        axes.margins(x=0.015)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_formatter(lambda value, _: "0" if value == 0 else written(value))
        axes.set_xlabel("step", loc="right")

    return drawn(name, inches, with_scales)
