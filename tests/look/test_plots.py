"""Plots as parts of a page."""

from __future__ import annotations

import re
from typing import Any

from matplotlib.ticker import FixedLocator

from whet.look.plots import drawn


def test_numbers_that_people_read_keep_their_digits() -> None:
    def draw(axes: Any) -> None:
        axes.plot([0, 1, 2], [0.0, 0.0025, 0.005])
        axes.yaxis.set_major_locator(FixedLocator([0.0025, 0.005]))
        axes.yaxis.set_major_formatter("{x:g}")

    svg = drawn("small", (3.0, 2.0), draw)
    assert {"0.0025", "0.005"} <= set(re.findall(r">\s*([\d.]+)\s*<", svg))
    assert not re.search(r'="[^"]*\d\.\d{3}', svg)  # coordinates are rounded
