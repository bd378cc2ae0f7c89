"""The plots of a card: how long rows are, which languages, how balanced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from whet.data.card.build import Card
from whet.look.plots import HELD_OUT, INK, NARROW, RAW, TRAIN, WIDE, Plot, drawn

BARS = 12
"""A plot of values shows so many, and the others together."""


def plots_of(card: Card) -> list[Plot]:
    """Lengths first, then languages and every balance."""
    languages = next((s.counts for s in card.sections if s.title == "Languages"), [])
    bars = [("Languages", languages)] if len(languages) > 1 else []
    bars += [(f"Balance of {name}", values.most_common()) for name, values in card.balance]
    return [_lengths(card), *(_bars(title, counts, f"bars-{n}") for n, (title, counts) in enumerate(bars[:6]))]


def _lengths(card: Card) -> Plot:
    tally = card.tally
    parts = (
        {"prompt": tally.prompt, "answer": tally.answer} if any(n >= 0 for n in tally.prompt) else {"row": tally.whole}
    )
    lengths = {name: np.array([n for n in values if n >= 0]) for name, values in parts.items()}
    most = max(int(values.max()) for values in lengths.values())
    edges = np.unique(np.round(np.geomspace(1, max(most, 2) + 1, 50)))

    def draw(axes: Any) -> None:
        for (name, values), colour in zip(lengths.items(), (RAW, HELD_OUT), strict=False):
            counts, _ = np.histogram(np.maximum(values, 1), edges)
            axes.stairs(counts, edges, fill=name != "answer", color=colour, linewidth=1.8, gid=name)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.set_xlabel(f"{tally.unit}, logarithmic", loc="right")
        axes.margins(x=0.01)
        axes.set_ylabel("rows")

    legend = [("raw" if name != "answer" else "held-out", name) for name in lengths]
    alt = "; ".join(f"{name}: median {np.median(values):.0f}, most {values.max()}" for name, values in lengths.items())
    drawings = [(name, drawn(f"lengths-{name}", size, draw)) for name, size in (("wide", WIDE), ("narrow", NARROW))]
    return Plot(f"Length in {tally.unit}", alt, legend, drawings)


def _bars(title: str, counts: Sequence[tuple[str, int]], name: str) -> Plot:
    shown = list(counts[:BARS])
    others = sum(count for _, count in counts[BARS:])
    if others:
        shown.append((f"{len(counts) - BARS} others", others))

    def draw(axes: Any) -> None:
        places = np.arange(len(shown))[::-1]
        colours = [TRAIN] * (len(shown) - bool(others)) + [RAW] * bool(others)
        axes.barh(places, [count for _, count in shown], color=colours, height=0.62)
        axes.set_yticks(places, [_short(value) for value, _ in shown], color=INK)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.grid(visible=False)
        axes.set_xticks([])
        for place, (_, count) in zip(places, shown, strict=True):
            axes.annotate(f"{count:,}", (count, place), (4, 0), textcoords="offset points", va="center")
        axes.margins(x=0.18)
        axes.spines["bottom"].set_visible(False)

    inches = (NARROW[0], max(1.4, 0.42 * len(shown) + 0.4))
    return Plot(
        title, "; ".join(f"{value}: {count:,}" for value, count in shown), [], [("", drawn(name, inches, draw))]
    )


def _short(value: str) -> str:
    return value if len(value) <= 24 else value[:23] + "…"
