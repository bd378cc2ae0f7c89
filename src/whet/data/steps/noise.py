"""Surface noise: slips of the kind that people make at a keyboard. Numbers, addresses and code stay as they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, NamedTuple

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
_BLANK = re.compile(r"\s")
_MARKS = ".,;:!?"


def noisy(text: str, rates: NoiseSettings, draw: np.random.Generator) -> str:
    """The text with slips at these rates. A word with a digit or another number sign in it, an address, markup or code
    is left alone, and so are the blanks beside it."""
    chance = draw.random(len(text))
    of_letters = rates.typos + rates.swaps + rates.drops + rates.case
    changes: dict[int, str] = {}
    word = _Word(0, 0, False)
    for at in np.flatnonzero(chance < max(of_letters, rates.punctuation, rates.spaces)).tolist():
        letter = text[at]
        rate = of_letters if letter.isalpha() else rates.spaces if letter == " " else rates.punctuation
        if at in changes or chance[at] >= rate:
            continue
        if not letter.isspace():
            word = _word_at(text, at, word)
            if word.free:
                changes |= dict(_slip(text, at, word.end, float(chance[at]), rates, draw))
        elif letter == " " and 0 < at < len(text) - 1:
            before, word = _word_at(text, at - 1, word), _word_at(text, at + 1, word)
            if before.free and word.free:
                changes[at] = "" if draw.random() < 0.5 else "  "
    return _changed(text, changes)


def _changed(text: str, changes: dict[int, str]) -> str:
    pieces, told = [], 0
    for at in sorted(changes):
        pieces += [text[told:at], changes[at]]
        told = at + 1
    return "".join([*pieces, text[told:]])


class _Word(NamedTuple):
    """Where it begins and ends, and whether slips may touch it."""

    start: int
    end: int
    free: bool


def _word_at(text: str, at: int, last: _Word) -> _Word:
    """The word that has the character, often the last one again; one that is not free where that is a blank."""
    if last.start <= at < last.end:
        return last
    if text[at].isspace():
        return _Word(at, at, False)
    start = at
    while start and not text[start - 1].isspace():
        start -= 1
    blank = _BLANK.search(text, at)
    end = blank.start() if blank else len(text)
    word = text[start:end]
    return _Word(start, end, not _CODE.search(word) and not any(letter.isnumeric() for letter in word))


def _slip(
    text: str, at: int, end: int, chance: float, rates: NoiseSettings, draw: np.random.Generator
) -> Iterator[tuple[int, str]]:
    """What becomes of a character, and of the next one where they change places; `chance` is below its rate."""
    letter = text[at]
    if not letter.isalpha():
        if letter in "'’" or (letter in _MARKS and at + 1 == end):
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
    yield at, "" if chance < bound + rates.drops else letter.swapcase()
