"""A lexicon with context: what toxic terms a text holds, and how toxic it is by them.

A term weighs by its severity; contexts (context.py) take weight away. A sentence's terms add up as independent
chances do, 1 - product(1 - weight), and a text is as toxic as its worst sentence: length does not dilute it.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from whet.data.mentions.find import PEOPLE, find_mentions, group_terms
from whet.data.toxicity.context import DISCOUNTS, about_oneself, condemned, negated, quotations
from whet.data.toxicity.spelling import plain_spelling
from whet.data.words import Token, folded, sentences, vocabulary, words
from whet.errors import RecipeError

WEIGHTS = {1: 0.25, 2: 0.6, 3: 0.9}
"""Of a term, by severity."""
KINDS = ("slur", "insult", "profanity", "sexual", "attack", "threat")
GROUP_REACH, OBJECT_REACH, PERSON_REACH, SENSE_REACH = 6, 4, 4, 4

_PERSONAL = PEOPLE | frozenset("you your you're u ur he he's she she's they they're him her them these those".split())


class Term(NamedTuple):
    """A line's term. `needs` is group, object, person or nothing; `unless` holds words that show another sense."""

    kind: str
    severity: int
    words: tuple[str, ...]
    needs: str
    reclaimed: bool
    unless: frozenset[str]


class Hit(NamedTuple):
    """A term found: its kind, its words, its place in the folded text, its weight here, what lowered it."""

    kind: str
    term: str
    start: int
    stop: int
    weight: float
    contexts: tuple[str, ...]


_LINE = re.compile(r"(\w+) ([123]): (.+)")
_TERM = re.compile(r"\s*([^,{]+?)\s*(?:\{([^}]*)\})?\s*(?:,|$)")


def read_terms(text: str, where: str) -> list[Term]:
    """The terms of a list in the form of terms.txt. Raises RecipeError with the line that is none."""
    terms = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None or match[1] not in KINDS:
            do = f"`kind severity: term, term`; kinds are {', '.join(KINDS)}, severities 1 to 3"
            raise RecipeError("not a line of terms", where=f"{where}:{number}", do=do)
        for spelled, options in _TERM.findall(match[3]):
            terms += _forms(match[1], int(match[2]), folded(spelled), options)
    return terms


def _forms(kind: str, severity: int, spelled: str, options: str) -> list[Term]:
    senses, _, unless = options.partition("unless ")
    needs = next((need for need in ("group", "object", "person") if need in senses), "")
    term = Term(kind, severity, tuple(spelled.split()), needs, "reclaimed" in senses, frozenset(unless.split()))
    plural = (*term.words[:-1], term.words[-1] + "s")
    return [term] if spelled.endswith("s") else [term, term._replace(words=plural)]


@cache
def _own_terms() -> tuple[Term, ...]:
    file = resources.files("whet.data.toxicity").joinpath("terms.txt")
    return tuple(read_terms(file.read_text(encoding="utf-8"), "terms.txt"))


class Lexicon:
    """whet's own terms, and those of a file in the same form."""

    def __init__(self, more: str | Path | None = None) -> None:
        terms: Iterable[Term] = _own_terms()
        if more is not None:
            try:
                text = Path(more).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise RecipeError(f"cannot be read: {error}", where=str(more), do="`terms` is a text file") from error
            terms = [*terms, *read_terms(text, str(more))]
        self.terms: dict[str, list[Term]] = defaultdict(list)
        for term in sorted(terms, key=lambda term: (-len(term.words), -term.severity)):
            self.terms[term.words[0]].append(term)
        # A text is read closely only if it holds all words of a term; they are looked up by the longest.
        self._signs: dict[str, list[tuple[frozenset[str], bool]]] = defaultdict(list)
        for term in chain.from_iterable(self.terms.values()):
            sign = frozenset(term.words), term.needs in ("group", "object")
            self._signs[max(term.words, key=len)].append(sign)
        self._groups = group_terms().keys()
        self._known = {word for same in self.terms.values() for t in same for word in t.words if len(word) > 2}
        self._starred: dict[tuple[str, int], list[str]] = defaultdict(list)
        for word in sorted({first for first, same in self.terms.items() if any(len(t.words) == 1 for t in same)}):
            self._starred[word[0], len(word)].append(word)

    def score(self, text: str) -> tuple[float, list[str]]:
        """(how toxic, 0 to 1; the kinds found, in the order of KINDS)."""
        hits = self.find(text)
        left: dict[int, float] = defaultdict(lambda: 1.0)
        for sentence, hit in hits:
            left[sentence] *= 1 - hit.weight
        kinds = {hit.kind for _, hit in hits}
        return 1 - min(left.values(), default=1.0), [kind for kind in KINDS if kind in kinds]

    def find(self, text: str) -> list[tuple[int, Hit]]:
        """(number of the sentence, hit) of every term that counts."""
        plain = plain_spelling(folded(text), self._known, self._starred)
        if self._clean(vocabulary(plain)):
            return []
        quoted = quotations(plain)
        capitals = text if len(text) == len(plain) else plain
        found = []
        for number, (start, stop) in enumerate(sentences(plain)):
            if self._clean(vocabulary(plain[start:stop])):
                continue
            tokens = words(plain[start:stop], start, capitals[start:stop])
            found += [(number, hit) for hit in self._in_sentence(tokens, plain, quoted)]
        return found

    def _clean(self, these: set[str]) -> bool:
        """Can a text of these words hold no term that counts?"""
        signs = [sign for word in these & self._signs.keys() for sign in self._signs[word] if sign[0] <= these]
        return not signs or (all(with_group for _, with_group in signs) and these.isdisjoint(self._groups))

    def _in_sentence(self, tokens: list[Token], text: str, quoted: list[tuple[int, int]]) -> list[Hit]:
        spelled = [token.word for token in tokens]
        bare = [word.removesuffix("'s") for word in spelled]
        groups = {at for m in find_mentions(tokens, pronouns=False) for at in range(m.first, m.last + 1)}
        groups |= {at for at, word in enumerate(bare) if any(t.kind == "slur" for t in self.terms.get(word, ()))}
        hits, at = [], 0
        while at < len(tokens):
            term = next(
                (t for t in self._starting(bare[at], spelled[at]) if self._counts(t, spelled, bare, at, groups)), None
            )
            if term is not None:
                hits.append(self._hit(term, tokens, at, text, quoted))
            at += len(term.words) if term is not None else 1
        return hits

    def _starting(self, bare: str, spelled: str) -> Sequence[Term]:
        return self.terms.get(spelled) or self.terms.get(bare) or ()

    def _counts(self, term: Term, spelled: list[str], bare: list[str], at: int, groups: set[int]) -> bool:
        end = at + len(term.words)
        if tuple(spelled[at:end]) != term.words and tuple(bare[at:end]) != term.words:
            return False
        if term.unless and not term.unless.isdisjoint(
            bare[max(at - SENSE_REACH, 0) : at] + bare[end : end + SENSE_REACH]
        ):
            return False
        if term.needs == "object":
            return any(place in groups for place in range(end, end + OBJECT_REACH))
        reach = GROUP_REACH if term.needs == "group" else PERSON_REACH
        near = (*range(at - reach, at), *range(end, end + reach))
        if term.needs and any(place in groups for place in near):
            return True
        personal = spelled[max(at - reach, 0) : at] + spelled[end : end + reach]
        return not term.needs or (term.needs == "person" and not _PERSONAL.isdisjoint(personal))

    def _hit(self, term: Term, tokens: list[Token], at: int, text: str, quoted: list[tuple[int, int]]) -> Hit:
        last = at + len(term.words) - 1
        start, stop = tokens[at].start, tokens[last].stop
        contexts = []
        before = bisect(quoted, (start, len(text)))  # quotations that begin at the term or before; none overlap
        if before and stop <= quoted[before - 1][1]:
            contexts.append("quoted")
        if term.kind != "profanity" and condemned(text, start, stop):
            contexts.append("condemned")
        if term.kind in ("insult", "attack", "threat") and negated(tokens, at):
            contexts.append("negated")
        if term.reclaimed and about_oneself(tokens, at, last):
            contexts.append("reclaimed")
        weight = WEIGHTS[term.severity]
        for context in contexts:
            weight *= DISCOUNTS[context]
        return Hit(term.kind, " ".join(term.words), start, stop, weight, tuple(contexts))


@cache
def lexicon(more: str | None = None) -> Lexicon:
    """A Lexicon, made once a process."""
    return Lexicon(more)
