"""What takes a personal value's place: its kind, a mask, a keyed hash, or a fake."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable

from whet.data.personal.fakes import Fakes, normal
from whet.data.personal.spans import NATIONAL_IDS, Span

Action = Callable[[str, str], str]
"""(kind, value) -> what stands instead."""


def redacted(kind: str, value: str = "") -> str:
    """`<EMAIL>`."""
    return f"<{kind.upper()}>"


def masked(kind: str, value: str) -> str:
    """Form without content: `j***@***`; four digits of a card, account or telephone, two of a national number."""
    if kind == "email":
        return f"{value[0]}***@***"
    if kind in ("person", "place", "organization"):
        return re.sub(r"([^\W_])[^\s]*", r"\1***", value)
    shown = 4 if kind in ("card", "iban", "phone") else 2 if kind in NATIONAL_IDS else 0
    letters = [at for at, character in enumerate(value) if character.isalnum()]
    hidden = set(letters[: len(letters) - shown] if len(letters) > 2 * shown else letters)
    return "".join("*" if at in hidden else character for at, character in enumerate(value))


def hashed(key: bytes) -> Action:
    """`<EMAIL:9f86d081884c7d65>`: HMAC-SHA256 (RFC 2104) of kind and value under the key, its first eight bytes.

    The same value has the same hash under the same key; without the key nobody can try values until one fits.
    """

    def action(kind: str, value: str) -> str:
        told = f"{kind}\0{normal(kind, value)}".encode("utf-8", "surrogatepass")
        return f"<{kind.upper()}:{hmac.new(key, told, hashlib.sha256).hexdigest()[:16]}>"

    return action


def replaced(key: bytes) -> Action:
    """A fake that follows from the key and the value."""
    return Fakes(key)


def changed(text: str, spans: list[Span], actions: dict[str, Action]) -> str:
    """The text with each span's action done; spans of kinds without an action stay. `spans` as `resolve` gives them."""
    out, at = [], 0
    for span in spans:
        action = actions.get(span.kind)
        if action is not None:
            out += [text[at : span.start], action(span.kind, text[span.start : span.end])]
            at = span.end
    return "".join([*out, text[at:]])
