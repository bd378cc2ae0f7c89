"""The words that describe a group: adjectives before it, and what follows "is" or "are" behind it.

Nothing is parsed. An adjective is a word of tone.txt, or one with an adjective's ending; what is not recognised is not
counted, so that a count is too low rather than wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources

from whet.data.mentions.find import Mention
from whet.data.words import Token

REACH = 4
"""So many words before a mention, and behind its copula, are looked at."""

_COPULA = frozenset("is are was were am be been being seem seems seemed look looks looked become became".split())
_JOINED = {"she's", "he's", "they're", "isn't", "aren't", "wasn't", "weren't"}
_BETWEEN = frozenset(
    "and or but very so really too quite more most less all always often usually also just both such rather extremely "
    "naturally generally still simply".split()
)
_NOT = frozenset("not never isn't aren't wasn't weren't no neither nor hardly".split())
_ENDINGS = ("ful", "ous", "ive", "able", "ible", "less", "ish", "minded", "ical", "istic")
_NO_ADJECTIVES = frozenset("table cable fish wish dish english finish publish establish unless five live give drive "
                           "arrive receive believe native relative detective executive british irish polish turkish "
                           "spanish jewish scottish vegetable handful various previous numerous".split())  # fmt: skip


@cache
def tones() -> dict[str, int]:
    """Word -> 1 (good), -1 (bad) or 0, of tone.txt."""
    signs = {"good": 1, "bad": -1, "plain": 0}
    text = resources.files("whet.data.mentions").joinpath("tone.txt").read_text(encoding="utf-8")
    lines = [line.partition(":") for line in text.splitlines() if line and not line.startswith("#")]
    return {word: signs[name] for name, _, words in lines for word in words.split()}


def is_adjective(word: str) -> bool:
    """Is it in tone.txt, or does it end as adjectives do?"""
    return word in tones() or (len(word) > 5 and word.endswith(_ENDINGS) and word not in _NO_ADJECTIVES)


def descriptors(tokens: Sequence[Token], mention: Mention) -> list[str]:
    """What describes this mention: "brave"; "not brave"; "a nurse" for a noun after the copula."""
    return [*_before(tokens, mention.first), *_behind(tokens, mention.last)]


def tone(descriptor: str) -> int:
    """1, -1 or 0; "not" turns it round."""
    negated = descriptor.startswith("not ")
    sign = tones().get(descriptor.removeprefix("not ").removeprefix("a "), 0)
    return -sign if negated else sign


def _before(tokens: Sequence[Token], first: int) -> Iterator[str]:
    at = first - 1
    while at >= max(first - REACH, 0):
        word = tokens[at].word
        if is_adjective(word):
            yield word
        elif word not in _BETWEEN:
            return
        at -= 1


def _behind(tokens: Sequence[Token], last: int) -> Iterator[str]:
    at = last + 1
    joined = tokens[last].word in _JOINED
    if at < len(tokens) and tokens[at].word in PEOPLE_AFTER:
        at += 1  # "black women are": the mention is "black"
    if at < len(tokens) and tokens[at].word == "who":
        at += 1
    if not joined:
        if at >= len(tokens) or (tokens[at].word not in _COPULA and tokens[at].word not in _JOINED):
            return
        negated = tokens[at].word in _NOT
        at += 1
    else:
        negated = False
    for position in range(at, min(at + REACH, len(tokens))):
        word = tokens[position].word
        if word in _NOT:
            negated = True
        elif word in ("a", "an"):
            yield from _noun(tokens, position + 1, negated)
            return
        elif is_adjective(word):
            yield f"not {word}" if negated else word
        elif word not in _BETWEEN:
            return


def _noun(tokens: Sequence[Token], at: int, negated: bool) -> Iterator[str]:
    """After "is a": adjectives, and the noun behind them."""
    mark = "not " if negated else ""
    for position in range(at, min(at + 3, len(tokens))):
        word = tokens[position].word
        if not is_adjective(word):
            if word not in _BETWEEN:
                yield f"{mark}a {word}"
                return
        else:
            yield mark + word


PEOPLE_AFTER = frozenset("people person persons men man women woman guys guy folks girls girl boys boy".split())
