"""All recognisers together: texts -> the personal values in each, of the kinds that are asked for, without overlaps."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from whet.data.personal import patterns
from whet.data.personal.national import Numbers, presidio
from whet.data.personal.phones import phones
from whet.data.personal.spans import CHECKED, FORM, KINDS, LIKELY, NATIONAL_IDS, Span, resolve
from whet.data.personal.tagger import TAGGED, shipped

Recognizer = Callable[[str], Iterable[Span]]

BY_FORM: dict[str, Recognizer] = {
    "email": patterns.emails, "phone": phones, "card": patterns.cards, "iban": patterns.ibans, "ip": patterns.ips,
    "mac": patterns.macs, "url": patterns.urls, "birth_date": patterns.birth_dates, "age": patterns.ages,
}  # fmt: skip
_DIGIT, _CONTENT = re.compile(r"\d"), re.compile(r"\w")
_WALLET = re.compile(r"(?<!\w)(?:bc1|[13])[a-zA-HJ-NP-Z0-9]{25,59}(?!\w)")
_PLACEHOLDER = re.compile(r"<(?:" + "|".join(kind.upper() for kind in KINDS) + r")(?::[0-9a-f]{16})?>")


class Finder:
    """Finds values of `kinds`. Names, addresses, places and organisations are likelihoods: `lean` above nought finds
    more of them, and more that are none. `allow` are values that are not personal, in any case of letters."""

    def __init__(self, kinds: Iterable[str] = KINDS, lean: float = 0.0, allow: Iterable[str] = ()) -> None:
        self.kinds, self.lean = set(kinds), lean
        self.allow = {" ".join(value.casefold().split()) for value in allow}
        self.forms = [recognizer for kind, recognizer in BY_FORM.items() if kind in self.kinds]
        if "crypto" in self.kinds:
            self.forms.append(wallets)
        self.numbers = Numbers(self.kinds & set(NATIONAL_IDS))
        self.tags = bool(self.kinds & set(TAGGED))
        # Names inside a web or e-mail address are part of it, even where the address is not asked for.
        self.masks = [f for kind, f in BY_FORM.items() if kind in ("email", "url") and kind not in self.kinds]

    def __call__(self, texts: Sequence[str]) -> list[list[Span]]:
        """The spans of each text, in order of place, none overlapping."""
        found = [list(self._by_form(text)) for text in texts]
        if self.tags and texts:
            likely = shipped()([_blank(text, of) for text, of in zip(texts, found, strict=True)], self.lean)
            found = [[*of, *more] for of, more in zip(found, likely, strict=True)]
        return [self._chosen(text, spans) for text, spans in zip(texts, found, strict=True)]

    def _chosen(self, text: str, spans: list[Span]) -> list[Span]:
        spans = [s for s in resolve(spans) if s.kind in self.kinds and _CONTENT.search(text, s.start, s.end)]
        if not self.allow:
            return spans
        return [span for span in spans if " ".join(text[span.start : span.end].casefold().split()) not in self.allow]

    def _by_form(self, text: str) -> Iterator[Span]:
        """What is found by form, and, of kind "", what must not be touched: placeholders, addresses not asked for."""
        digits = bool(_DIGIT.search(text))
        for recognizer in self.forms:
            if digits or recognizer in (patterns.emails, patterns.urls, patterns.ips, patterns.macs):
                yield from recognizer(text)
        if digits:
            yield from self.numbers(text)
        for mask in self.masks:
            yield from (span._replace(kind="", sure=FORM) for span in mask(text))
        if "<" in text:
            yield from (Span(match.start(), match.end(), "", CHECKED + 1) for match in _PLACEHOLDER.finditer(text))


def _blank(text: str, spans: list[Span]) -> str:
    """The text with a line end and blanks in place of each span: no name or street goes on beyond an e-mail address."""
    if not spans:
        return text
    out, at = [], 0
    for start, end, *_ in sorted(spans):
        if end > at:
            out += [text[at : max(start, at)], ("\n" + " " * (end - max(start, at)))[: end - max(start, at)]]
            at = end
    return "".join([*out, text[at:]])


_NAME = re.compile(r"[^\W\d_]{3,}")


def echoes(texts: Sequence[str], found: Sequence[list[Span]], allow: Iterable[str] = ()) -> list[list[Span]]:
    """The spans of a row's texts, and the people among them wherever else in the row their names stand.

    The tagger sees a few words on either side: it may know "Ada Smith" in a prompt and miss "Smith" in the answer. A
    word of a name counts with its capital, and not if the row has it in small letters too ("Will", "Young").
    """
    names = {
        word
        for text, spans in zip(texts, found, strict=True)
        for span in spans
        if span.kind == "person"
        for word in _NAME.findall(text[span.start : span.end])
        if not word.islower()
    }
    common = {word for word in names if word.casefold() in allow or any(word.lower() in text for text in texts)}
    if not names - common:
        return list(found)
    again = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, sorted(names - common)))})(?!\w)")
    return [
        _with_more(spans, [Span(m.start(), m.end(), "person", LIKELY) for m in again.finditer(text)])
        for text, spans in zip(texts, found, strict=True)
    ]


def _with_more(spans: list[Span], more: list[Span]) -> list[Span]:
    new = [span for span in more if not any(span.start < other.end and other.start < span.end for other in spans)]
    return sorted([*spans, *new]) if new else spans


def wallets(text: str) -> Iterator[Span]:
    """Bitcoin addresses whose checksum is right, by presidio."""
    for match in _WALLET.finditer(text):
        if any(r.score == 1 for r in presidio("CryptoRecognizer").analyze(match.group(), ["CRYPTO"], None)):
            yield Span(match.start(), match.end(), "crypto", CHECKED)
