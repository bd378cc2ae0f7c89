"""Sentences and words with their places, for the steps that read a word in its context."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple


class Token(NamedTuple):
    """A word: lower case and without accents, where it stands in its text, and whether it began with a capital."""

    word: str
    start: int
    stop: int
    capital: bool


_END = re.compile(r"(?<=[.!?])[\"'”’)]*\s+|\n+")
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Where each sentence begins and ends: cut at line ends, and at blanks behind a full stop, ! or ?."""
    start = 0
    for end in _END.finditer(text):
        if end.start() > start:
            yield start, end.start()
        start = end.end()
    if start < len(text):
        yield start, len(text)


def words(text: str, offset: int = 0, cased: str = "") -> list[Token]:
    """The words of a text; `offset` is added to their places. `cased` is the same text with its capitals."""
    cased = cased or text
    return [
        Token(folded(match.group()), offset + match.start(), offset + match.end(), cased[match.start()].isupper())
        for match in _WORD.finditer(text)
    ]


def folded(text: str) -> str:
    """Lower case, curly apostrophes straight, accents taken off. Keeps the length of what is in ASCII."""
    text = text.lower()
    if text.isascii():
        return text
    apart = unicodedata.normalize("NFKD", text.replace("’", "'"))
    return "".join(character for character in apart if not unicodedata.combining(character))


def vocabulary(text: str) -> set[str]:
    """The distinct words of a folded text: a quick look at whether anything in it is worth a slow one."""
    return set(_WORD.findall(text))
