"""The form of answers: length, refusals, whether they ended, and whether what they quote is in their source."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from whet.data.steps.refusals import refusal
from whet.errors import RowError
from whet.evaluate.measure import Measured, mean_of

_QUOTED = re.compile(r"[\"“”«]([^\"“”«»]{3,})[\"“”»]")


def length(completions: Sequence[str], columns: dict[str, list[Any]]) -> list[Measured]:
    """Words an answer; and the share of empty ones."""
    words = mean_of("length", [float(len(text.split())) for text in completions], None, unit="words")
    return [words, mean_of("empty", [float(not text.strip()) for text in completions], False)]


def refusals(completions: Sequence[str], columns: dict[str, list[Any]]) -> list[Measured]:
    """The share of answers that refuse, by the patterns of `whet data inconsistencies`: English, and a hint only."""
    prompts = columns.get("prompt") or [""] * len(completions)
    found = [float(bool(refusal(str(prompt), text))) for prompt, text in zip(prompts, completions, strict=True)]
    return [mean_of("refusals", found, None)]


def stopped(completions: Sequence[str], columns: dict[str, list[Any]]) -> list[Measured]:
    """The share of answers that ended by themselves; the others were cut at the longest length."""
    return [mean_of("stopped", [float(value) for value in columns.get("stopped", [True] * len(completions))])]


def citations(completions: Sequence[str], columns: dict[str, list[Any]]) -> list[Measured]:
    """The share of an answer's quoted passages that its `source` has, word for word but for blanks and case; answers
    that quote nothing do not count."""
    sources = columns.get("source") or columns.get("context")
    if sources is None:
        raise RowError("no column `source`", do="give each row the text that its answer may quote")
    values = []
    for text, source in zip(completions, sources, strict=True):
        plain = " ".join(str(source).lower().split())
        quoted = [" ".join(passage.lower().split()).rstrip(".,;") for passage in _QUOTED.findall(text)]
        values.append(sum(passage in plain for passage in quoted) / len(quoted) if quoted else math.nan)
    return [mean_of("citations", values)]
