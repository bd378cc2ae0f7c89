"""Answers right or wrong: exact match and token F1 as SQuAD has them, and numbers with tolerance and unit."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from whet.evaluate.measure import Measured, mean_of
from whet.evaluate.metrics.references import references_of

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normal(text: str) -> str:
    """Lower case, no punctuation, no English articles, single blanks (Rajpurkar et al. 2016, the SQuAD evaluation)."""
    return " ".join(_ARTICLES.sub(" ", as_label(text)).split())


def as_label(text: str) -> str:
    """Lower case, no punctuation, single blanks: how labels are compared. "a" may be one, so articles stay."""
    return " ".join(text.lower().translate(_PUNCTUATION).split())


def exact_match(completions: Sequence[str], columns: dict[str, list[Any]]) -> list[Measured]:
    """Whether the normalised answer is one of the normalised references."""
    return [mean_of("exact_match", _best(completions, columns, lambda a, b: float(normal(a) == normal(b))))]


def token_f1(completions: Sequence[str], columns: dict[str, list[Any]]) -> list[Measured]:
    """F1 of the words that answer and reference share; of several references the best."""
    return [mean_of("token_f1", _best(completions, columns, f1))]


def f1(answer: str, reference: str) -> float:
    """F1 over normalised words; 1 where both are empty, 0 where one is."""
    found, wanted = normal(answer).split(), normal(reference).split()
    if not found or not wanted:
        return float(found == wanted)
    same = sum((Counter(found) & Counter(wanted)).values())
    return 2 * same / (len(found) + len(wanted))


_NUMBER = re.compile(
    r"(?<![\w.])(?P<open>\()?(?P<sign>[-−+])?\s?(?P<currency>[$€£¥])?\s?(?P<sign2>[-−])?"
    r"(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?P<power>e[-+]?\d+)?(?P<close>\))?"
    r"\s?(?P<unit>%|percent\b|thousand\b|million\b|billion\b|trillion\b|[kmbMBK]\b|bn\b)?",
)
_SCALE = {
    "%": 0.01, "percent": 0.01, "thousand": 1e3, "k": 1e3, "million": 1e6, "m": 1e6,
    "billion": 1e9, "bn": 1e9, "b": 1e9, "trillion": 1e12,
}  # fmt: skip
TOLERANCE = 1e-4
"""Relative. Wider ones are a column `tolerance` of the rows."""


def numeric(completions: Sequence[str], columns: dict[str, list[Any]]) -> list[Measured]:
    """Whether the last number of the answer is the reference's last number, within the row's `tolerance` (relative;
    1e-4 where there is none). Signs in brackets, thousands separators and scales (%, k, million, bn) are read; where
    only one of the two names a scale or a percent sign, the bare figures are compared as well."""
    tolerances = columns.get("tolerance") or [TOLERANCE] * len(completions)
    values = []
    for text, refs, tolerance in zip(completions, references_of(columns), tolerances, strict=True):
        found, wanted = numbers(text), [number for ref in refs for number in numbers(ref)[-1:]]
        right = bool(found) and any(_close(found[-1], one, tolerance or TOLERANCE) for one in wanted)
        values.append(float(right) if wanted else math.nan)
    return [mean_of("numeric", values)]


def numbers(text: str) -> list[tuple[float, float]]:
    """(figure, scale) of each number in a text: "(1,200) million" is (-1200, 1e6)."""
    found = []
    for match in _NUMBER.finditer(text):
        figure = float(match["number"].replace(",", "") + (match["power"] or ""))
        inside = match["open"] and (match["close"] or text[match.end() : match.end() + 1] == ")")
        negative = inside or match["sign"] in ("-", "−") or match["sign2"]
        found.append((-figure if negative else figure, _SCALE.get((match["unit"] or "").lower(), 1.0)))
    return found


def _close(found: tuple[float, float], wanted: tuple[float, float], tolerance: float) -> bool:
    pairs = [(found[0] * found[1], wanted[0] * wanted[1])]
    if (found[1] == 1.0) != (wanted[1] == 1.0):
        pairs.append((found[0], wanted[0]))
    return any(math.isclose(a, b, rel_tol=tolerance, abs_tol=1e-9) for a, b in pairs)


def _best(completions: Sequence[str], columns: dict[str, list[Any]], score: Callable[[str, str], float]) -> list[float]:
    pairs = zip(completions, references_of(columns), strict=True)
    return [max(score(text, reference) for reference in refs) for text, refs in pairs]
