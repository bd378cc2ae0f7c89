"""Answers that refuse: patterns of our own, for English answers in the voice of an assistant."""

from __future__ import annotations

import re

WITHIN = 400
"""Characters at the beginning in which a refusal stands."""

_SORRY = (
    r"(?:(?:i'm |i am |we're |we are )?(?:very |so |truly |really )?(?:sorry|afraid)|(?:i|my) apolog(?:i[sz]e|ies)"
    r"|unfortunately)"
)
_CANNOT = (
    r"(?:i|we)(?: just| simply| really)?(?:"
    r" can(?:'t|not| not)| won't| will not| must decline| have to decline| must refuse"
    r"| do(?:n't| not) have the (?:ability|capability)"
    r"|(?:'m| am|'re| are) (?:not able|unable|not allowed|not permitted|not programmed|not comfortable|not capable))"
)
_TASK = (
    r"(?:access|advise|answer|assist|browse|complete|comply|condone|continue|create|discuss|display|do (?:that|this)"
    r"|engage|fulfil+|generate|give|help|make|offer|open|participate|perform|process|produce|promote|provide|recommend|respond"
    r"|send|share|support|tell|translate|view|write)"
)
_NO_TASK = r" (?:agree|believe|find|imagine|recall|remember|think|understand|wait)\b"
_OF_IT = (
    r"(?: (?:that|this|these|those|you|your|with|such|any|it|to|in (?:creating|generating|making|writing))\b"
    r"| (?:an? )?(?:advice|answer|details|image|instructions|link|opinion|photo|picture|response|video)\b|[.,!]|$)"
)
_MACHINE = r"(?:ai|a\.i\.|artificial intelligence|(?:large |ai )?language model|(?:ai |virtual )?assistant|chat ?bot)"
_LACKS = (
    r"(?:can(?:'t|not| not)|unable|not able|not capable|not programmed|do(?:n't| not) (?:have|possess|experience|feel))"
)

REFUSALS: tuple[tuple[str, str], ...] = (
    (
        "I'm sorry, but I cannot ...",
        rf"^(?:oh|well|no|thanks?(?: you)?)?[,.! ]*{_SORRY},? ?(?:but |that )*{_CANNOT}\b(?!{_NO_TASK})",
    ),
    ("I cannot help with that", rf"^(?:no[,.;] )?{_CANNOT} (?:be able )?(?:to )?{_TASK}\b{_OF_IT}"),
    ("I don't have the ability to ...", r"^(?:i|we) do(?:n't| not) have the (?:ability|capability) to\b"),
    ("As an AI, I cannot ...", rf"\bas an? {_MACHINE}\b[^.]{{0,40}}\b(?:i|we)\b[^.]{{0,25}}{_LACKS}"),
    ("I'm just an AI, I don't have ...", rf"^(?:i'm|i am) (?:just |only )?an? {_MACHINE}\b[^.]{{0,60}}{_LACKS}"),
    (
        "Sorry, that is not something ...",
        rf"^{_SORRY},? (?:but )?(?:(?:that|this)(?:'s| is) (?:not something|beyond|outside|against)"
        r"|(?:your|the|this) request )",
    ),
    (
        "This request goes against ...",
        r"^(?:this|your|that) request (?:violates|goes against|is against|can(?:not|'t) be)",
    ),
    (
        "... against my guidelines",
        r"(?:against|violates?) (?:my|our) (?:programming|guidelines|principles|(?:\w+ )?polic(?:y|ies))",
    ),
)
"""(what it looks like, regular expression); apostrophes are straight, case does not count."""

_REFUSAL = re.compile("|".join(f"(?:{pattern})" for _, pattern in REFUSALS), re.IGNORECASE)
_ASKED_TO_DECLINE = re.compile(
    r"(?i)\b(?:apolog|e-?mail|letter|dialog|conversation|story|poem|declin|refus|repl(?:y|ies)|excuse)"
)


def refusal(prompt: str, answer: str) -> str:
    """Whether an answer refuses, in its first sentences and in the answerer's own voice: "refusal" or "". Where the
    prompt asks for a letter, a dialogue or an apology, nothing is said."""
    begins = answer.lstrip(" \"'*\n")[:WITHIN].replace("’", "'")
    return "refusal" if _REFUSAL.search(begins) and not _ASKED_TO_DECLINE.search(prompt[-1000:]) else ""
