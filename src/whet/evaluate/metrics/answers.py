"""Answers right or wrong: exact match and token F1 as SQuAD has them, and numbers with tolerance and unit."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from whet.answers import close, numbers
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
        right = bool(found) and any(close(found[-1], one, tolerance or TOLERANCE) for one in wanted)
        values.append(float(right) if wanted else math.nan)
    return [mean_of("numeric", values)]


def _best(completions: Sequence[str], columns: dict[str, list[Any]], score: Callable[[str, str], float]) -> list[float]:
    pairs = zip(completions, references_of(columns), strict=True)
    return [max(score(text, reference) for reference in refs) for text, refs in pairs]
