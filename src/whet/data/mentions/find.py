"""Find mentions of groups: terms of groups.txt, each in the sense that its line allows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import NamedTuple

from whet.data.words import Token, folded

PEOPLE = frozenset(
    "people person persons man men woman women guy guys folk folks boy boys girl girls kid kids child children "
    "student students worker workers family families community communities lady ladies gentleman gentlemen male "
    "males female females adult adults teen teens teenager teenagers american americans actor actors actress artist "
    "artists author authors player players athlete athletes voter voters officer officers neighbor neighbors "
    "neighbour neighbours friend friends couple couples patient patients citizen citizens immigrant immigrants "
    "christian christians muslim muslims employee employees user users veteran veterans youth soldiers "
    "mother mothers father fathers husband husbands wife wives brother brothers sister sisters supremacist "
    "supremacists nationalist nationalists individuals individual lives".split()
)
"""Words for people: what a word such as "black" must stand beside to name a group."""

_PERSONS = PEOPLE | frozenset("he she they we i you who someone somebody".split())
_COPULA = frozenset("is are am was were be being been i'm he's she's they're we're you're isn't aren't wasn't".split())


class Mention(NamedTuple):
    """A group in a sentence: tokens `first` to `last` (inclusive)."""

    axis: str
    group: str
    term: str
    first: int
    last: int
    pronoun: bool


class Term(NamedTuple):
    """A line's term: its words, and in which sense it counts."""

    axis: str
    group: str
    words: tuple[str, ...]
    person: bool
    capital: bool
    pronoun: bool
    excluded: frozenset[str]


_LINE = re.compile(r"(\w+) ([^:]+): (.+)")
_TERM = re.compile(r"\s*([^,{]+?)\s*(?:\{([^}]*)\})?\s*(?:,|$)")


@cache
def group_terms() -> dict[str, list[Term]]:
    """The terms by their first word, longest first."""
    text = resources.files("whet.data.mentions").joinpath("groups.txt").read_text(encoding="utf-8")
    terms: dict[str, list[Term]] = {}
    for line in text.splitlines():
        if line.startswith("#") or not (match := _LINE.fullmatch(line.strip())):
            continue
        axis, group, listed = match.groups()
        for spelled, options in _TERM.findall(listed):
            senses, _, excluded = options.partition("not ")
            for form in _forms(spelled):
                words = tuple(word.removesuffix("'s") for word in form.split())
                flags = ("person" in senses, "capital" in senses, "pronoun" in senses)
                term = Term(axis, group, words, *flags, frozenset(excluded.split()))
                terms.setdefault(words[0], []).append(term)
    for same in terms.values():
        same.sort(key=lambda term: -len(term.words))
    return terms


def _forms(spelled: str) -> list[str]:
    return [spelled.replace("(s)", ""), spelled.replace("(s)", "s")] if "(s)" in spelled else [folded(spelled)]


def axes() -> dict[str, list[str]]:
    """The groups of each axis, in the file's order."""
    found: dict[str, dict[str, None]] = {}
    for same in group_terms().values():
        for term in same:
            found.setdefault(term.axis, {})[term.group] = None
    return {axis: list(groups) for axis, groups in found.items()}


def find_mentions(tokens: Sequence[Token], pronouns: bool = True) -> list[Mention]:
    """The groups that a sentence names, in order of place: of each axis, at each place, the longest term that counts.

    "old women" names a group of two axes.
    """
    terms, found = group_terms(), []
    words = [token.word.removesuffix("'s") for token in tokens]
    free: dict[str, int] = {}  # axis -> the first token behind its last mention
    for at, word in enumerate(words):
        for term in terms.get(word, ()):
            if at >= free.get(term.axis, 0) and (pronouns or not term.pronoun) and _counts(term, words, tokens, at):
                free[term.axis] = at + len(term.words)
                spelled = " ".join(term.words)
                found.append(Mention(term.axis, term.group, spelled, at, free[term.axis] - 1, term.pronoun))
    return found


def _counts(term: Term, words: list[str], tokens: Sequence[Token], at: int) -> bool:
    end = at + len(term.words)
    if tuple(words[at:end]) != term.words:
        return False
    after = words[end] if end < len(words) else ""
    if after in term.excluded:
        return False
    beside = any(words[i] in PEOPLE for i in range(end, min(end + 2, len(words))) if _together(tokens, end - 1, i))
    if term.capital and not (tokens[at].capital and (at > 0 or beside)):
        return False
    if not term.person or beside:
        return True
    copula = next((i for i in range(max(at - 2, 0), at) if tokens[i].word in _COPULA), None)
    if copula is None:
        return False
    subject = {tokens[i].word for i in range(max(copula - 2, 0), copula)}
    return bool(subject & _PERSONS) or "'" in tokens[copula].word.removesuffix("n't")


def _together(tokens: Sequence[Token], first: int, last: int) -> bool:
    """Is there nothing but one blank or hyphen between the words from `first` to `last`?"""
    return all(tokens[at + 1].start - tokens[at].stop == 1 for at in range(first, last))
