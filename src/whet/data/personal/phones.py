"""Telephone numbers: international ones by their plan, national ones by how they are grouped and what stands around."""

from __future__ import annotations

import re
from collections.abc import Iterator

from whet.data.personal.patterns import near
from whet.data.personal.spans import FORM, Span

_CANDIDATE = re.compile(
    r"(?<![\w+])(?<!\d[.,/:-])(?:\+ ?)?(?:\(\+?\d{1,5}\)|\d)(?: ?\(\d{1,5}\)|[ .\-/\u00a0\u2011]{0,2}\d){4,17}"
    r"(?: ?(?:x|ext\.?|extension) ?\d{1,6}\b)?",
    re.IGNORECASE,
)
_WORDS = re.compile(
    r"(?i)(?:\b(?:tele?phones?|phoned?|phoning|tel|call(?:s|ed|ing)?|fax|mobile|cell(?:phone)?|"
    r"text(?:ed)? (?:me|us|him|her|them)|contact|messages?|sms|dial(?:led|ing)?|ring|rang|"
    r"reach(?:ed|able)?|answer(?:s|ed|ing)?|"
    r"voicemail|landline|handset|hotline|helpline|whatsapp|office|handy|"
    r"telefon(?:e|o)?|t[ée]l[ée]phone|portable|m[óo]vil|celular|cellulare)\b|☎|📞)"
)
_OTHER = re.compile(
    r"(?i)\b(?:isbn|issn|doi|order|invoice|account|card|iban|tracking|serial|part|case|ticket|reference|ref|pages?|"
    r"version|zip|postcode|ssn|licen[cs]e|passport|id)\b\W{0,12}(?:number|no|nr|is|was)?\W{0,6}$"
)
_DATE = re.compile(
    r"(?:19|20)\d{2}[ ./-](?:0?[1-9]|1[0-2])[ ./-](?:0?[1-9]|[12]\d|3[01])\b"
    r"|(?:0?[1-9]|[12]\d|3[01])[ ./-](?:0?[1-9]|[12]\d|3[01])[ ./-](?:19|20)?\d{2}(?!\d| ?[-. ]\d)"
)
_NORTH_AMERICAN = re.compile(r"(?:1[-. ])?(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-. ]\d{4}(?: ?(?:x|ext)|$)", re.IGNORECASE)
_YEARS = re.compile(r"(?:1[5-9]|20)\d\d ?[-/] ?(?:1[5-9]|20)\d\d\b")
_SUM_BEFORE, _SUM_AFTER = re.compile(r"(?:[=÷×*$£€]|<<) ?$"), re.compile(r" ?[=÷×*]")
_STREET = re.compile(r" [A-ZÀ-Þ]")


def phones(text: str) -> Iterator[Span]:
    """Numbers of six to fifteen digits (ITU E.164) that are grouped as telephone numbers are.

    With `+` or a bracketed area, with a leading nought and groups, in the North American form, or in pairs, a number
    counts as it stands; seven digits or some other grouping only where a word of telephones is close.
    """
    for match in _CANDIDATE.finditer(text):
        start, end = match.span()
        if text[end : end + 1].isalnum() or _OTHER.search(text, max(start - 40, 0), start):
            continue
        if _SUM_BEFORE.search(text, max(start - 3, 0), start) or _SUM_AFTER.match(text, end):
            continue
        found = match.group()
        number = re.split("(?i)x|ext", found)[0].rstrip()
        digits = re.sub(r"\D", "", number)
        if not 6 <= len(digits) <= 15 or digits.startswith("000") or _DATE.match(number) or _YEARS.match(number):
            continue
        long = len(digits) > 6 or re.fullmatch(r"\d\d([ -])\d\d\1\d\d", number)
        spoken_of = long and near(_WORDS, text, start, end) and not _STREET.match(text, end)
        if spoken_of or _alone(number, digits, len(found) > len(number) + 1):
            yield Span(start, end, "phone", FORM)


def _alone(number: str, digits: str, extension: bool) -> bool:
    """Whether a number's grouping says by itself that it is a telephone's."""
    grouped = len(re.findall(r"\d+", number)) > 1
    if number.startswith("+"):
        return possible(number)
    if "(" in number:
        return len(digits) >= 7
    if _NORTH_AMERICAN.match(number) or (extension and len(digits) >= 7):
        return True
    if digits.startswith("0") and grouped and not re.fullmatch(r"\d{3}.\d{2}.\d{4}", number):
        return 8 <= len(digits) <= 14 and not re.fullmatch(r"\d+\.\d+", number)
    return bool(re.fullmatch(r"\d{2}(?:([-.])\d{2})(?:\1\d{2}){2,3}", number))


def possible(number: str) -> bool:
    """Whether an international number has a length that its country knows, by Google's libphonenumber."""
    import phonenumbers

    try:
        return bool(phonenumbers.is_possible_number(phonenumbers.parse(number)))
    except phonenumbers.NumberParseException:
        return False
