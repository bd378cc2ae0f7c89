"""Words as they are meant: letters for digits and signs, repeated letters, letters with gaps, letters starred out."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from itertools import product

_SIGNS = {
    "0": "o", "1": "il", "3": "e", "4": "a", "5": "s", "7": "t", "8": "b", "9": "g",
    "@": "a", "$": "s", "!": "i", "+": "t", "|": "il",
}  # fmt: skip
ODD = re.compile(r"[a-z][0-9@$!+|*]+[a-z]|(?<![a-z0-9])[0-9@$][a-z]{2}|[a-z][@$]{2}|([a-z])\1\1")
"""Inside a word: a sign or digit among letters, or three of a letter together."""
_REST = re.compile(r"[a-z0-9@$!+|*]*")
SPACED = re.compile(r"(?<![^\W_])[a-z@$!*013457](?:[ ._\-*]{1,2}[a-z@$!*013457](?![^\W_])){2,}")
"""Single letters with gaps: "w o r d", "w.o.r.d"."""

LONGEST = 40
"""A longer word, or a longer run of single letters, is no word."""
_MOST = 64
"""So many readings of one word are tried."""


def readings(word: str) -> Iterator[str]:
    """What a word in lower case may stand for: signs read as letters, runs of a letter cut to two and to one.

    A star is one letter that is not known, and stays.
    """
    word = word.strip("!+|")
    options = [_SIGNS.get(character, character) for character in word]
    for number, letters in enumerate(product(*options)):
        if number == _MOST:
            return
        spelled = "".join(letters)
        yield spelled
        if _RUN.search(spelled):
            yield _RUN.sub(r"\1\1", spelled)
            yield _RUN.sub(r"\1", spelled)


_RUN = re.compile(r"(.)\1{2,}")


def meant(word: str, known: Collection[str], starred: dict[tuple[str, int], list[str]]) -> str | None:
    """The known word that this one stands for, or None. `starred` lists known words by first letter and length."""
    for reading in readings(word):
        if reading in known:
            return reading
        if "*" in reading and len(reading.replace("*", "")) >= 2 and reading[0] != "*":
            pattern = re.compile(re.escape(reading).replace(r"\*", "."))
            for candidate in starred.get((reading[0], len(reading)), ()):
                if pattern.fullmatch(candidate):
                    return candidate
    return None


def plain_spelling(text: str, known: Collection[str], starred: dict[tuple[str, int], list[str]]) -> str:
    """A text (folded) in which spelling variants of known words are spelled plainly. Same length: gaps are padded."""

    def closed(match: re.Match[str]) -> str:
        gapped = match.group()
        letters = re.sub(r"[ ._\-]", "", gapped)
        # The run may hold more than the word: "a f o o l". The longest known word in it wins.
        if len(letters) > LONGEST:
            return gapped
        for size in range(len(letters), 3, -1):
            for start in range(len(letters) - size + 1):
                found = meant(letters[start : start + size], known, starred)
                if found is not None:
                    joined = f"{letters[:start]} {found} {letters[start + size :]}".strip()
                    return joined.ljust(len(gapped)) if len(joined) <= len(gapped) else gapped
        return gapped

    text = SPACED.sub(closed, text)
    pieces, done = [], 0
    for hit in ODD.finditer(text):
        if hit.start() < done:
            continue
        start = hit.start()
        while start > done and _REST.fullmatch(text[start - 1]):
            start -= 1
        stop = _REST.match(text, start).end()  # type: ignore[union-attr]
        word = text[start:stop]
        found = meant(word, known, starred) if len(word) <= LONGEST else None
        pieces += [text[done:start], found.ljust(len(word)) if found and len(found) <= len(word) else word]
        done = stop
    return "".join(pieces) + text[done:]
