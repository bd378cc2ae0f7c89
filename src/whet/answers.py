"""What is in a written answer: its numbers, its JSON value, its program."""

from __future__ import annotations

import json
import math
import re
from typing import Any

NOTHING = object()
"""What an answer that is no JSON has for a value."""
Number = tuple[float, float]
"""A figure and its scale."""

_NUMBER = re.compile(
    r"(?<![\w.])(?P<open>\()?(?P<sign>[-−+])?\s?(?P<currency>[$€£¥])?\s?(?P<sign2>[-−])?"
    r"(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?P<power>e[-+]?\d+)?(?P<close>\))?"
    r"\s?(?P<unit>%|percent\b|thousand\b|million\b|billion\b|trillion\b|[kmbMBK]\b|bn\b)?",
)
_SCALE = {
    "%": 0.01, "percent": 0.01, "thousand": 1e3, "k": 1e3, "million": 1e6, "m": 1e6,
    "billion": 1e9, "bn": 1e9, "b": 1e9, "trillion": 1e12,
}  # fmt: skip
_FENCED = re.compile(r"```(?:json)?[^\S\n]*\n(.*?)```", re.DOTALL)
_PROGRAM = re.compile(r"```[ \t]*(\w*)[^\n]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)


def numbers(text: str) -> list[Number]:
    """(figure, scale) of each number in a text: "(1,200) million" is (-1200, 1e6)."""
    found = []
    for match in _NUMBER.finditer(text):
        figure = float(match["number"].replace(",", "") + (match["power"] or ""))
        inside = match["open"] and (match["close"] or text[match.end() : match.end() + 1] == ")")
        negative = inside or match["sign"] in ("-", "−") or match["sign2"]
        found.append((-figure if negative else figure, _SCALE.get((match["unit"] or "").lower(), 1.0)))
    return found


def close(found: Number, wanted: Number, relative: float, absolute: float = 1e-9) -> bool:
    """Whether two numbers are equal within a tolerance. Where only one of them names a scale or a percent sign, the
    bare figures are compared as well."""
    pairs = [(found[0] * found[1], wanted[0] * wanted[1])]
    if (found[1] == 1.0) != (wanted[1] == 1.0):
        pairs.append((found[0], wanted[0]))
    return any(math.isclose(a, b, rel_tol=relative, abs_tol=absolute) for a, b in pairs)


def parsed(text: str) -> Any:
    """The JSON value of an answer, within a code fence or bare; NOTHING where it is none."""
    fenced = _FENCED.search(text)
    try:
        return json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return NOTHING


def program(text: str) -> str:
    """The Python program of an answer: its code fences that are marked as Python, one after the other; where none is,
    the first fence of no language; where there is none either, all of it."""
    fences = _PROGRAM.findall(text)
    python = [body for language, body in fences if language.lower() in ("py", "python", "python3")]
    plain = [body for language, body in fences if not language]
    return "\n".join(python or plain[:1] or [text])
