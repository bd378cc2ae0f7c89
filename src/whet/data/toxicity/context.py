"""What stands round a term and takes weight from it: quotation, condemnation, negation, use about oneself.

Rules of a few words each: they see neither irony nor who speaks. docs/toxicity.md says how often they are right.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from whet.data.words import Token

DISCOUNTS = {"quoted": 0.5, "condemned": 0.3, "negated": 0.3, "reclaimed": 0.2}
"""What is left of a term's weight in each context."""

NEAR = 150
"""Condemnation counts within so many characters of the term."""

_QUOTED = re.compile('"[^"\n]{1,300}"|“[^”\n]{1,300}”|«[^»\n]{1,300}»|‘[^’\n]{1,300}’')
_CONDEMNED = re.compile(
    r"\b(?:(?:is|are|was|were|it's|that's) (?:\w+ )?(?:wrong|unacceptable|racist|sexist|homophobic|transphobic"
    r"|islamophobic|antisemitic|ableist|xenophobic|bigoted|hateful|offensive|hurtful|not ok|not okay|not acceptable)"
    r"|(?:stop|don't|do not|never|nobody should|no one should|shouldn't|should not|must not|can't|cannot)"
    r" (?:\w+ )?(?:say|saying|call|calling|use|using|tell|telling|post|posting|write|writing|think|thinking)"
    r"|hate speech|an? (?:\w+ )?slurs?|slurs|the [a-z]-?word|the word|the term"
    r"|(?:called|calls|calling|call) (?:me|him|her|us|them)"
    r"|bigots?|bigotry|condemn\w*|unacceptable|racists|racism|sexism|homophobia|transphobia|islamophobia|misogyny)\b"
)
_NEGATORS = frozenset(
    "not never no nobody none nor neither without hardly cannot don't doesn't didn't isn't aren't wasn't weren't won't "
    "wouldn't shouldn't can't couldn't ain't haven't hasn't".split()
)
_SELF_BEFORE = frozenset("i'm we're us fellow proud myself ourselves".split())
_SELF_AFTER = frozenset("pride community rights studies power solidarity myself ourselves".split())


def quotations(text: str) -> list[tuple[int, int]]:
    """Where quotations begin and end, those left out that are all of the text."""
    spans = (match.span() for match in _QUOTED.finditer(text))
    return [(start, stop) for start, stop in spans if stop - start < 0.9 * len(text.strip())]


def condemned(text: str, start: int, stop: int) -> bool:
    """Is something called wrong, or named as what one does not say, near text[start:stop]?"""
    return _CONDEMNED.search(text, max(start - NEAR, 0), min(stop + NEAR, len(text))) is not None


def negated(tokens: Sequence[Token], first: int) -> bool:
    """Is there a "not" within three words before the term? "not only" is none."""
    for at in range(max(first - 3, 0), first):
        following = tokens[at + 1].word if at + 1 < len(tokens) else ""
        if tokens[at].word in _NEGATORS and following not in ("only", "just", "merely"):
            return True
    return False


def about_oneself(tokens: Sequence[Token], first: int, last: int) -> bool:
    """Does the speaker take the term as a name of their own?"""
    before = [token.word for token in tokens[max(first - 4, 0) : first]]
    after = {token.word for token in tokens[last + 1 : last + 4]}
    pairs = set(pairwise(before))
    return bool(_SELF_BEFORE & set(before) or _SELF_AFTER & after or pairs & {("i", "am"), ("we", "are"), ("as", "a")})
