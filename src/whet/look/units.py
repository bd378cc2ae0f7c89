"""Numbers as people read them: the screen, the report and the table of runs print the same figure the same way."""

from __future__ import annotations

import math

MISSING = "–"


def figure(value: float | None) -> str:
    """Three significant digits: 41.2, 7.91, 0.523, 1,204; `–` for None."""
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if value and abs(value) < 0.001:
        return f"{value:.2e}"
    decimals = 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{decimals}f}"


def count(number: float | None) -> str:
    """A whole number: 812, 9,604, then 1.24 M and 7.10 B."""
    if number is None:
        return MISSING
    if abs(number) >= 1e9:
        return f"{number / 1e9:.2f} B"
    if abs(number) >= 1e6:
        return f"{number / 1e6:.2f} M"
    return f"{number:,.0f}"


def duration(seconds: float | None) -> str:
    """Two units at most: 8.2 s, 48 s, 3 min 12 s, 2 h 05 min, 1 d 4 h."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def size(number: float | None) -> str:
    """Bytes with decimal prefixes: 640 B, 1.2 kB, 38.4 MB, 2.1 GB."""
    if number is None:
        return MISSING
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def scientific(value: float) -> str:
    """Two digits and a power of ten, as recipes have it: 2e-4, 1.5e-4, 0."""
    if not value or not math.isfinite(value):
        return figure(value) if value else "0"
    mantissa, power = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(power)}"
