"""The results of a review as files: preferences.jsonl, ratings.jsonl, results.json, and one page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from whet.errors import StorageError
from whet.evaluate.measure import Interval
from whet.human.results import Results, number
from whet.look import css, write_whole
from whet.look.plots import HAIRLINE, INK, MUTED, TRAIN, Plot, drawn
from whet.look.units import MISSING, duration

MOST_KAPPAS = 28
"""Of eight judges, each two; beyond that one line sums them up. results.json has all."""

Table = tuple[str, list[str], list[list[str]]]


def write(found: Results) -> Path:
    """Into the review's folder, under results/, each file whole or not at all. Returns the page's path."""
    folder = found.review.folder / "results"
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise StorageError(str(error), where=str(folder), do="check who may write there") from None
    made = {
        "preferences.jsonl": _lines(found.preferences),
        "ratings.jsonl": _lines(found.ratings),
        "results.json": json.dumps(tree(found), indent=1, ensure_ascii=False),
        "results.html": page(found),
    }
    for name, text in made.items():
        write_whole(folder / name, text)
    return folder / "results.html"


def _lines(rows: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def tree(found: Results) -> dict[str, Any]:
    """Every figure, as JSON has it."""
    return {
        "models": found.review.models,
        "counts": found.counts | {"preferences": len(found.preferences)},
        "strengths": {model: interval.plain() for model, interval in found.strengths.items()},
        "matches": [asdict(each) | {"share": each.share.plain() if each.share else None} for each in found.matches],
        "alpha": found.alpha.plain() if found.alpha else None,
        "kappa": [asdict(each) | {"kappa": number(each.kappa)} for each in found.kappas],
        "ratings": [
            {"question": each.question, "alpha": each.alpha.plain() if each.alpha else None,
             "means": {model: interval.plain() for model, interval in each.means.items()}}
            for each in found.rated
        ],
        "judges": [asdict(each) for each in found.judges],
        "notes": found.notes,
    }  # fmt: skip


def tables(found: Results) -> list[Table]:
    """(title, header, lines), for the screen and for the page."""
    made: list[Table] = []
    if found.matches:
        header = ["a", "b", "a won", "tied", "both bad", "b won", "skipped", "share of a (95 %)"]
        lines = [
            [m.a, m.b, *(f"{n:,}" for n in (m.won, m.tied, m.both_bad, m.lost, m.skipped)), _share(m.share)]
            for m in found.matches
        ]
        made.append(("Won, tied, lost", header, lines))
    if found.strengths:
        by_strength = sorted(found.strengths.items(), key=lambda each: -each[1].value)
        made.append(("Bradley-Terry", ["model", "strength (95 %)"], [[m, _signed(i)] for m, i in by_strength]))
    if found.rated:
        models = found.review.models
        lines = [
            [each.question, *(_plain(each.means.get(model), 2) for model in models), _plain(each.alpha, 2)]
            for each in found.rated
        ]
        made.append(("Rated, 1 to 5", ["question", *models, "alpha (ordinal)"], lines))
    if agreed := _agreement(found):
        made.append(("Agreement", ["judges", "measure", "beyond chance (95 %)", "said the same"], agreed))
    made.append(("Judges", ["judge", "judged", "ties", "both bad", "skipped", "edited", "left", "checks failed",
                            "median time (quartiles)"], [_judge(each) for each in found.judges]))  # fmt: skip
    return made


def _agreement(found: Results) -> list[list[str]]:
    lines = [["all", "Krippendorff's alpha", _plain(found.alpha, 2), ""]] if len(found.judges) > 1 else []
    if len(found.kappas) <= MOST_KAPPAS:
        return lines + [
            [f"{each.a}, {each.b}", "Cohen's kappa", _finite(each.kappa), f"{each.same:,} of {each.pairs:,}"]
            for each in found.kappas
        ]
    known = [each.kappa for each in found.kappas if number(each.kappa) is not None]
    middle = f"{np.median(known):.2f} ({min(known):.2f} to {max(known):.2f})" if known else MISSING
    same, pairs = (sum(getattr(each, name) for each in found.kappas) for name in ("same", "pairs"))
    return [*lines, [f"each two of them: {len(found.kappas):,}", "Cohen's kappa, median (all)", middle,
                     f"{same:,} of {pairs:,}"]]  # fmt: skip


def _judge(each: Any) -> list[str]:
    time = MISSING
    if each.seconds:
        low, middle, high = map(duration, each.seconds)
        time = f"{middle} ({low} to {high})"
    return [
        each.name + (" (left out)" if each.excluded else ""), f"{each.judged:,} of {each.of:,}",
        *(f"{each.verdicts[kind]:,}" for kind in ("tie", "both_bad", "skip")), f"{each.edits:,}",
        _percent(each.left / each.decided) if each.decided else MISSING,
        f"{each.failed} of {each.checks}" if each.checks else MISSING, time,
    ]  # fmt: skip


def headline(found: Results) -> str:
    """What the review says, in a line; that it says nothing, where that is so."""
    if not found.strengths:
        return "No judgement that counts yet"
    if len(found.review.models) > 2:
        best = max(found.strengths, key=lambda model: found.strengths[model].value)
        return f"{best} is preferred most"
    match = found.matches[0]
    if match.share is None or match.share.low <= 0.5 <= match.share.high:
        return f"No difference seen between {match.a} and {match.b}"
    a, b = (match.a, match.b) if match.share.value > 0.5 else (match.b, match.a)
    return f"{a} is preferred to {b}"


def page(found: Results) -> str:
    """One page with everything in it: no script, no network."""
    template = files(__package__).joinpath("results.html.j2").read_text(encoding="utf-8")
    counts = found.counts
    judges = sum(each.judged > 0 for each in found.judges)
    under = (
        f"{counts['judgements']:,} judgements of {sum(not item.check for item in found.review.items.values()):,} pairs "
        f"by {judges} judge{'s' if judges > 1 else ''}; {len(found.preferences):,} preferences to train on"
    )
    return Environment(autoescape=True, undefined=StrictUndefined).from_string(template).render(
        css=css(), headline=headline(found), under=under, tiles=_tiles(found), notes=found.notes, tables=tables(found),
        plots=plots(found),
    )  # fmt: skip


def _tiles(found: Results) -> list[tuple[str, str, str]]:
    """(name, value, detail)"""
    tiles = []
    for match in found.matches[:3]:
        share = match.share
        detail = f"95 %: {100 * share.low:.0f} to {_percent(share.high)}" if share else "all skipped"
        tiles.append((f"{match.a} against {match.b}", _percent(share.value) if share else MISSING, detail))
    alpha = found.alpha
    detail = f"95 %: {alpha.low:.2f} to {alpha.high:.2f}" if alpha else "not defined"
    tiles.append(("Krippendorff's alpha", f"{alpha.value:.2f}" if alpha else MISSING, detail))
    checks, failed = (sum(getattr(each, name) for each in found.judges) for name in ("checks", "failed"))
    tiles.append(("attention checks", f"{failed} of {checks}" if checks else MISSING, "failed" if checks else "none"))
    return tiles


def plots(found: Results) -> list[Plot]:
    """Won, tied and lost as bars; strengths with their intervals where there are more than two models."""
    made = [_bars(found)] if any(match.share for match in found.matches) else []
    return made + ([_strengths(found)] if len(found.strengths) > 2 else [])


def _bars(found: Results) -> Plot:
    matches = [match for match in found.matches if match.share][::-1]

    def draw(axes: Any) -> None:
        for at, match in enumerate(matches):
            parts = [match.won, match.tied + match.both_bad, match.lost]
            left = 0.0
            for part, colour in zip(parts, (TRAIN, HAIRLINE, MUTED), strict=True):
                width = part / sum(parts)
                axes.barh(at, width, left=left, color=colour, height=0.5)
                left += width
            axes.annotate(match.a, (0, at + 0.33), color=INK, ha="left", va="bottom")
            axes.annotate(match.b, (1, at + 0.33), color=INK, ha="right", va="bottom")
            assert match.share is not None
            below = at - 0.4
            axes.errorbar([match.share.value], [below], xerr=_spread([match.share]), color=INK, fmt="o", markersize=5,
                          elinewidth=1.5)  # fmt: skip
        axes.axvline(0.5, color=INK, linewidth=0.8, linestyle=(0, (2, 3)))
        axes.set_xlim(0, 1)
        axes.set_ylim(-0.6, len(matches) - 0.2)
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])

    alt = "; ".join(f"{m.a} won {m.won}, tied {m.tied + m.both_bad}, {m.b} won {m.lost}" for m in matches[::-1])
    height = 1.1 + 0.95 * len(matches)
    return Plot("Won, neither, lost; below, the share and its interval", alt, [],
                [("", drawn("matches", (13.4, height), draw))])  # fmt: skip


def _strengths(found: Results) -> Plot:
    order = sorted(found.strengths, key=lambda model: found.strengths[model].value)
    intervals = [found.strengths[model] for model in order]

    def draw(axes: Any) -> None:
        axes.errorbar([i.value for i in intervals], range(len(order)), xerr=_spread(intervals), color=TRAIN, fmt="o",
                      markersize=6, elinewidth=1.8)  # fmt: skip
        axes.set_yticks(range(len(order)), order)
        axes.set_ylim(-0.6, len(order) - 0.4)
        axes.grid(visible=False)
        axes.axvline(0, color=HAIRLINE, linewidth=1.5, zorder=0)
        axes.set_xlabel("strength: 1 more is e times the odds", loc="right")

    alt = "; ".join(f"{model} {_signed(found.strengths[model])}" for model in order[::-1])
    size = (13.4, 1.2 + 0.5 * len(order))
    return Plot("Bradley-Terry strengths", alt, [], [("", drawn("strengths", size, draw))])


def _spread(intervals: Sequence[Interval]) -> list[list[float]]:
    return [[max(0.0, i.value - i.low) for i in intervals], [max(0.0, i.high - i.value) for i in intervals]]


def _share(interval: Interval | None) -> str:
    return (
        f"{_percent(interval.value)} ({100 * interval.low:.0f} to {_percent(interval.high)})" if interval else MISSING
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _signed(interval: Interval) -> str:
    return f"{interval.value:+.2f} ({interval.low:+.2f} to {interval.high:+.2f})"


def _plain(interval: Interval | None, digits: int) -> str:
    if interval is None:
        return MISSING
    value, low, high = (f"{one:.{digits}f}" for one in (interval.value, interval.low, interval.high))
    return f"{value} ({low} to {high})"


def _finite(value: float) -> str:
    return MISSING if number(value) is None else f"{value:.2f}"
