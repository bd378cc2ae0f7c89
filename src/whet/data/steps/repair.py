"""`repair`: texts as they were meant. Wrong encodings, Unicode forms, control characters, white space, markup.

On by default is what no reader would miss; what changes what a generative model learns is off (docs/curation.md).
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, Literal

from pydantic import field_validator

from whet.data.curation.contract import Outcome, Record, RowStep
from whet.data.curation.texts import map_texts
from whet.recipe.part import Part


class RepairSettings(Part):
    """What is repaired."""

    encoding: bool = True
    """Undo text that was decoded wrongly ("schÃ¶n" -> "schön"), by ftfy."""
    unicode: Literal["NFC", "NFKC", "none"] = "NFC"
    """The Unicode form. NFKC also folds ligatures, widths and superscripts: "x²" becomes "x2"."""
    control: bool = True
    """Remove control characters, zero-width marks that join nothing, and byte order marks inside a text."""
    whitespace: bool = True
    """Line ends \\n; no blanks at line ends; no more than two empty lines; no blanks at either end."""
    markup: bool = False
    """Remove HTML tags and read HTML's entities."""
    boilerplate: list[str] = []
    """Lines that match one of these regular expressions are removed."""
    symbols: bool = False
    """Remove what is neither letter, digit, blank nor common punctuation. A generative model then never writes them."""
    stop_words: list[str] = []
    """Words to remove. For bags of words only: a generative model trained on such text loses its grammar."""

    @field_validator("boilerplate")
    @classmethod
    def _expressions(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return patterns


class Repair(RowStep):
    """Repair every text of a row; a row whose texts are all as they should be is not touched."""

    settings = RepairSettings

    def __init__(self, settings: Any, context: Any) -> None:
        super().__init__(settings, context)
        self.repairs = repairs(settings)

    def __call__(self, records: Sequence[Record]) -> list[Outcome]:
        return [self._repaired(record.row) for record in records]

    def _repaired(self, row: dict[str, Any]) -> Outcome:
        did: dict[str, None] = {}

        def repaired(text: str) -> str:
            for name, repair in self.repairs:
                better = repair(text)
                if better != text:
                    did[name], text = None, better
            return text

        return Outcome(map_texts(row, repaired, self.context.columns), tuple(did))


def repairs(settings: RepairSettings) -> list[tuple[str, Callable[[str], str]]]:
    """(name, function) of the repairs that are on, in the order in which they are done."""
    done: list[tuple[str, Callable[[str], str]]] = []
    if settings.encoding:
        from ftfy import fix_encoding

        done.append(("wrong encoding", fix_encoding))
    if settings.markup:
        done.append(("markup", without_markup))
    if settings.control:
        done.append(("control characters", without_controls))
    if settings.unicode != "none":
        form = settings.unicode
        done.append((form, lambda text: text if text.isascii() else unicodedata.normalize(form, text)))
    if settings.boilerplate:
        lines = re.compile("|".join(f"(?:{pattern})" for pattern in settings.boilerplate))
        done.append(("boilerplate", lambda text: "\n".join(x for x in text.split("\n") if not lines.search(x))))
    if settings.symbols:
        done.append(("symbols", without_symbols))
    if settings.stop_words:
        words = re.compile(rf"\b(?:{'|'.join(map(re.escape, settings.stop_words))})\b[ \t]*", re.IGNORECASE)
        done.append(("stop words", lambda text: words.sub("", text)))
    if settings.whitespace:
        done.append(("white space", tidy))
    return done


# C0 and C1 but tab and line ends; the byte order mark; zero-width space; word joiner; bidirectional overrides.
# U+200C and U+200D stay: Persian, Indic scripts and emoji are spelled with them.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u200b\u2060\ufeff\u202a-\u202e\u2066-\u2069]")


def without_controls(text: str) -> str:
    """The text without characters that are no part of any writing."""
    return _CONTROL.sub("", text)


_SPACE_AT_END = re.compile(r"[ \t\u00a0]+(?=\n|$)")
_EMPTY_LINES = re.compile(r"\n{4,}")


def tidy(text: str) -> str:
    """Line ends \\n, none of them behind blanks, at most two empty lines together, nothing at either end.

    Blanks at the beginning of a line and between words stay: code and tables are made of them.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _EMPTY_LINES.sub("\n\n\n", _SPACE_AT_END.sub("", text)).strip("\n").strip(" ")


_BREAK = re.compile(r"(?i)<\s*(?:br|/p|/div|/li|/tr|/h[1-6])\b[^<>]*>")
_HIDDEN = re.compile(r"(?is)<(script|style)\b[^<>]*>.*?</\1\s*>|<!--.*?-->")
_TAG = re.compile(r"</?[A-Za-z][A-Za-z0-9]*(?:\s[^<>]*)?/?>")


def without_markup(text: str) -> str:
    """The text of an HTML fragment: line ends where blocks end, entities read, what is not shown left out."""
    if "<" in text:
        text = _TAG.sub("", _BREAK.sub("\n", _HIDDEN.sub("", text)))
    return html.unescape(text) if "&" in text else text


def without_symbols(text: str) -> str:
    """Letters with their marks, digits, blanks and the punctuation of plain prose."""
    return "".join(c for c in text if c.isspace() or c in ".,;:!?'\"()-%" or unicodedata.category(c)[0] in "LMN")
