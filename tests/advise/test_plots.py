"""The plot of a pilot: what is shown, and that it can be read."""

from __future__ import annotations

from itertools import combinations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from whet.advise.pilot import Line, Pilot
from whet.advise.plots import COSTS, SHAPES, _panel, plots_of
from whet.advise.verdict import Interval
from whet.recipe import check_recipe


def line(name: str, trained: int, loss: float, seconds: float = 10.0) -> Line:
    one = Interval(loss, loss - 0.1, loss + 0.1)
    return Line(
        name, trained, one, one, None, Interval(seconds, -5.0, 40.0), Interval(1e9, 0.9e9, 1.1e9), 1e-3, shots=0.0
    )


CROWDED = [
    line("prefix", 64_000, 1.00), line("bottleneck", 65_700, 1.01), line("lora r=4", 123_200, 1.01),
    line("lora r=16", 492_800, 1.02), line("full", 7_586_240, 1.02),
]  # fmt: skip


def test_names_cover_neither_each_other_nor_points() -> None:
    inches, grid = SHAPES["wide"]
    drawing = Figure(figsize=inches, layout="constrained")
    panels = drawing.subplots(*grid, sharey=True)
    for axes, cost in zip(panels, COSTS, strict=True):
        _panel(axes, cost, CROWDED, "full")
    canvas = FigureCanvasAgg(drawing)
    canvas.draw()
    for axes, cost in zip(panels, COSTS, strict=True):
        boxes = [text.get_window_extent(canvas.get_renderer()) for text in axes.texts]
        assert len(boxes) == len(CROWDED)
        assert not [(a, b) for a, b in combinations(boxes, 2) if a.overlaps(b)], cost.title
        points = [axes.transData.transform((cost.of(each).mean, each.loss.mean)) for each in CROWDED]
        assert not [point for point in points for box in boxes if box.contains(*point)], cost.title
        assert axes.get_xlim()[0] > -5 or cost.title != "time of training"  # a margin, and no interval below nothing


def test_what_lies_far_off_is_named_and_not_drawn() -> None:
    lines = [*CROWDED, line("zero-shot", 0, 9.0)]
    (plot,) = plots_of(Pilot(lines, "prefix", "full", check_recipe({"data": "x"}, "test"), "", [], 3, 40, 100))
    assert plot.title == "Held-out loss against what it costs (zero-shot: far above, not shown)"
    assert "bottleneck: loss 1.010, trained parameters 65,700, time of training 10 s, peak memory 1.0 GB" in plot.alt
    assert [name for name, _ in plot.drawings] == ["wide", "narrow"]
    for _, svg in plot.drawings:
        assert svg.count(">bottleneck<") == 3
        assert "zero-shot" not in svg
