"""Surface noise: slips of the kind that people make at a keyboard. Numbers, addresses and code stay as they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

import numpy as np
from pydantic import Field

from whet.recipe.part import Part

Rate = Annotated[float, Field(ge=0, le=0.5)]


class NoiseSettings(Part):
    """How often, of all places where it could happen."""

    typos: Rate = 0.01
    """A letter becomes one whose key lies beside it."""
    swaps: Rate = 0.005
    """A letter and the next one change places."""
    drops: Rate = 0.005
    """A letter is missing."""
    case: Rate = 0.005
    """A letter is small instead of large, or the other way round."""
    punctuation: Rate = 0.05
    """A mark at the end of a word is missing, or an apostrophe."""
    spaces: Rate = 0.01
    """A blank between two words is missing, or there twice."""


_LINES = ((0.0, "qwertyuiop"), (0.25, "asdfghjkl"), (0.75, "zxcvbnm"))
_AT = {key: (line, shift + place) for line, (shift, keys) in enumerate(_LINES) for place, key in enumerate(keys)}
NEIGHBOURS = {
    key: "".join(k for k, (other, x) in _AT.items() if k != key and abs(other - line) <= 1 and abs(x - at) <= 1)
    for key, (line, at) in _AT.items()
}
"""The keys that touch a key of the QWERTY layout: those a key's width away at most, on its line and the next ones."""

_CODE = re.compile(r"[@\\_{}<>=`/|#$%^*+~\[\]]|www\.")
_WORD = re.compile(r"\S+")
_MARKS = ".,;:!?"


def noisy(text: str, rates: NoiseSettings, draw: np.random.Generator) -> str:
    """The text with slips at these rates. A word with a digit or another number sign in it, an address, markup or code
    is left alone, and so are the blanks beside it."""
    chance = draw.random(len(text))
    changes: dict[int, str] = {}
    before = -1  # where the last word ended, if slips may touch it
    for match in _WORD.finditer(text):
        start, end = match.span()
        if _CODE.search(match[0]) or any(letter.isnumeric() for letter in match[0]):
            before = -1
            continue
        if before == start - 1 and text[before] == " " and chance[before] < rates.spaces:
            changes[before] = "" if draw.random() < 0.5 else "  "
        changes |= _in_word(text, start, end, chance, rates, draw)
        before = end
    return "".join(changes.get(at, letter) for at, letter in enumerate(text)) if changes else text


def _in_word(
    text: str, start: int, end: int, chance: np.ndarray, rates: NoiseSettings, draw: np.random.Generator
) -> dict[int, str]:
    """What becomes of the letters of one word, by place: at most one slip a letter."""
    changes: dict[int, str] = {}
    most = max(rates.typos + rates.swaps + rates.drops + rates.case, rates.punctuation)
    for at in (start + np.flatnonzero(chance[start:end] < most)).tolist():
        if at not in changes:
            changes |= dict(_slip(text, at, end, float(chance[at]), rates, draw))
    return changes


def _slip(
    text: str, at: int, end: int, chance: float, rates: NoiseSettings, draw: np.random.Generator
) -> Iterator[tuple[int, str]]:
    letter = text[at]
    if not letter.isalpha():
        if chance < rates.punctuation and (letter in "'’" or (letter in _MARKS and at + 1 == end)):
            yield at, ""
        return
    bound = rates.typos
    if chance < bound:
        if near := NEIGHBOURS.get(letter.lower()):
            key = near[int(draw.integers(len(near)))]
            yield at, key.upper() if letter.isupper() else key
        return
    bound += rates.swaps
    if chance < bound:
        if at + 1 < end and text[at + 1].isalpha() and text[at + 1] != letter:
            yield at, text[at + 1]
            yield at + 1, letter
        return
    bound += rates.drops
    if chance < bound:
        yield at, ""
    elif chance < bound + rates.case:
        yield at, letter.swapcase()
