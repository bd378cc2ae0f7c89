"""Values that their form gives away: e-mail, card, IBAN, IP, MAC, URL, date of birth, age.

Every finder looks first for what its values cannot be without (an `@`, two colons), so that other texts cost next to
nothing, and none of the expressions can take more than linear time.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from whet.data.personal.checks import IBAN_LENGTHS, card_scheme, iban, luhn
from whet.data.personal.spans import CHECKED, FORM, Span

BEFORE, AFTER = 60, 30
"""How far a word of context may stand before and after what it speaks of, in characters."""


def near(words: re.Pattern[str], text: str, start: int, end: int) -> bool:
    """Whether one of these words stands close to text[start:end], in the same paragraph."""
    before = text[max(start - BEFORE, 0) : start].rpartition("\n\n")[2]
    return bool(words.search(before) or words.search(text[end : end + AFTER].partition("\n")[0]))


_DOMAIN = re.compile(
    r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}(?:xn--[a-z0-9-]{2,59}|[^\W\d_]{2,24})(?![\w-])", re.IGNORECASE
)
_LOCAL = re.compile(r"[\w%&'+~.-]{1,64}\Z")


def emails(text: str) -> Iterator[Span]:
    """Addresses as they are given out (RFC 5321 would allow stranger ones), in other scripts too (RFC 6531)."""
    at = text.find("@")
    while at > 0:
        domain = _DOMAIN.match(text, at + 1)
        local = _LOCAL.search(text, max(at - 64, 0), at) if domain else None
        if domain and local:
            start = local.start()
            while start < at and text[start] in ".'&%~-":  # what stands before an address, not in it
                start += 1
            if start < at and text[at - 1] != ".":
                yield Span(start, domain.end(), "email", CHECKED)
        at = text.find("@", at + 1)


_URL = re.compile(r"(?:(?:https?|ftp)://|www\d?\.)[^\s<>\"“”«»`\\]{2,2000}", re.IGNORECASE)
_BARE = re.compile(
    r"(?<![\w@./-])(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.){1,4}(?:com|org|edu|gov|info|biz|co\.[a-z]{2})\b(?!\.\w|[\w@-])"
    r"(?:/[^\s<>\"“”`\\]{0,2000})?",
    re.IGNORECASE,
)
_OLD_DOMAIN = re.compile(r"\.(?:com|org|edu|gov|info|biz|co\.[a-z]{2})\b", re.IGNORECASE)
_PAIRS = {")": "(", "]": "[", "}": "{"}


def urls(text: str) -> Iterator[Span]:
    """Web addresses: with a scheme or `www.`, or a name under one of the oldest domains."""
    has = ("://" in text or "www" in text.lower(), bool(_OLD_DOMAIN.search(text)))
    for pattern, sure in [each for each, may in zip(((_URL, CHECKED), (_BARE, FORM)), has, strict=True) if may]:
        for match in pattern.finditer(text):
            end = match.end()
            while end > match.start() and (
                text[end - 1] in ".,;:!?'’*_|" or _opened_outside(text, match.start(), end, text[end - 1])
            ):
                end -= 1
            if "." in text[match.start() : end]:
                yield Span(match.start(), end, "url", sure)


def _opened_outside(text: str, start: int, end: int, last: str) -> bool:
    return last in _PAIRS and text.count(last, start, end) > text.count(_PAIRS[last], start, end)


_V4 = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)", re.ASCII)
_V6 = re.compile(r"(?<![\w:.])(?=[0-9a-f:.]{0,40}:[0-9a-f:.]{0,40}:)[0-9a-f:][0-9a-f:.]{5,44}(?![\w:])", re.IGNORECASE)
_VERSION = re.compile(r"(?i)\b(?:v|ver|version|release|section|clause)\.?\s*$")
_NOBODY = {ipaddress.ip_address(a) for a in ("0.0.0.0", "127.0.0.1", "255.255.255.255", "::", "::1")}


def ips(text: str) -> Iterator[Span]:
    """Addresses of machines, IPv4 and IPv6 (RFC 4291); those that every machine has (loopback) are nobody's."""
    patterns = [pattern for pattern, has in ((_V4, text.count(".") > 2), (_V6, text.count(":") > 1)) if has]
    for pattern in patterns:
        for match in pattern.finditer(text):
            found = match.group().rstrip(".")
            try:
                address = ipaddress.ip_address(found)
            except ValueError:
                continue
            if pattern is _V4 and _VERSION.search(text, max(match.start() - 12, 0), match.start()):
                continue
            # "a::b" is a path in some languages: a compressed address counts from three groups and a digit.
            if pattern is _V6 and ("::" in found and (len(re.findall(r"\w+", found)) < 3 or found.isalpha())):
                continue
            if address not in _NOBODY:
                yield Span(match.start(), match.start() + len(found), "ip", CHECKED)


_MAC = re.compile(r"(?<![\w:-])[0-9a-f]{2}([:-])[0-9a-f]{2}(?:\1[0-9a-f]{2}){4}(?![\w:-])", re.IGNORECASE)


def macs(text: str) -> Iterator[Span]:
    """Addresses of network cards: six bytes in hex (IEEE 802)."""
    if text.count(":") > 4 or text.count("-") > 4:
        yield from (Span(match.start(), match.end(), "mac", CHECKED) for match in _MAC.finditer(text))


_CARD = re.compile(r"(?<![\w.,-])\d(?:[ -]?\d){11,18}(?![\d-]|[.,]\d)(?!\w)", re.ASCII)
_CARD_WORDS = re.compile(
    r"(?i)\b(?:cards?|credit|debit|cc|visa|mastercard|maestro|amex|"
    r"american express|(?:kredit)?karte|carte|tarjeta|carta)\b"
)


def cards(text: str) -> Iterator[Span]:
    """Card numbers, by their check digit.

    Chance lets one number in ten pass, so the prefix and length of a scheme are asked for too, or a word of cards close
    by (always with Maestro, whose prefixes are wide, and with lengths other than 15 and 16).
    """
    for match in _CARD.finditer(text):
        digits = re.sub("[ -]", "", match.group())
        if not luhn(digits) or len(set(digits)) == 1:
            continue
        plain = len(digits) in (15, 16) and card_scheme(digits) not in (None, "maestro")
        if plain or near(_CARD_WORDS, text, match.start(), match.end()):
            yield Span(match.start(), match.end(), "card", CHECKED)


_IBAN = re.compile(r"(?<![\w])[a-z]{2}\d{2}(?:[ -]?[a-z0-9]){11,30}", re.IGNORECASE | re.ASCII)


def ibans(text: str) -> Iterator[Span]:
    """Bank accounts: country, length, check digits; in groups or in one, in capitals or not."""
    for match in _IBAN.finditer(text):
        size = IBAN_LENGTHS.get(match.group()[:2].upper())
        if size is None:
            continue
        end, seen = match.start(), 0
        while seen < size and end < match.end():
            seen += text[end] not in " -"
            end += 1
        plain = re.sub("[ -]", "", text[match.start() : end])
        if seen == size and not text[end : end + 1].isalnum() and iban(plain):
            yield Span(match.start(), end, "iban", CHECKED)


_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\.?"
_DATE = re.compile(
    r"(?<![\w/.-])(?:\d{1,2}[/.-]\d{1,2}[/.-](?:\d{4}|\d{2})|\d{4}[/.-]\d{1,2}[/.-]\d{1,2}"
    rf"|\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {_MONTH},? \d{{4}}|{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}})(?![\w/-])",
    re.IGNORECASE,
)
_BORN = re.compile(
    r"(?i)\b(?:born|birth|birthday|birthdate|dob|d\.o\.b|geboren|geburtsdatum|née?e? le|nacid[oa]|nat[oa] il)\b"
)


def birth_dates(text: str) -> Iterator[Span]:
    """Dates beside a word of birth."""
    if _BORN.search(text):
        for match in _DATE.finditer(text):
            if near(_BORN, text, match.start(), match.end()):
                yield Span(match.start(), match.end(), "birth_date", FORM)


_AGE = re.compile(
    r"(?i)\b(?:(?:aged?(?: of)?:?|turn(?:ed|s|ing)?) (\d{1,3})(?!\d|[.,/:%]\d|\s?%)"
    r"|(\d{1,3})(?:[ -]years?[ -](?:old|of age)\b|\s?y\.?/?o\b))"
)


def ages(text: str) -> Iterator[Span]:
    """A person's age in years."""
    for match in _AGE.finditer(text):
        group = 1 if match.group(1) else 2
        if int(match.group(group)) < 123:
            yield Span(match.start(group), match.end(group), "age", FORM)
