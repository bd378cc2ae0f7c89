"""The bytes that a token stands for."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE = "\u2581"


class Bytes:
    """Bytes of tokens of a fast tokenizer, byte-level or SentencePiece-like; others' pieces are taken as text."""

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        self.added = {token.content for token in tokenizer.added_tokens_decoder.values()}
        tree = json.loads(tokenizer.backend_tokenizer.to_str()) if tokenizer.is_fast else {}
        steps = [_kinds(tree.get(part)) for part in ("pre_tokenizer", "decoder")]
        self.by_bytes = any("ByteLevel" in kinds for kinds in steps)
        self.byte_fallback = bool(tree.get("model", {}).get("byte_fallback"))

    def of(self, token: int) -> bytes:
        """Of an id. A special token stands for the bytes of its name."""
        return self.of_piece(self.tokenizer.convert_ids_to_tokens(int(token)))

    def of_piece(self, piece: str) -> bytes:
        """Of a piece as the vocabulary has it."""
        if piece in self.added:
            return piece.encode()
        if self.by_bytes:
            letters = _byte_of_letter()
            if all(letter in letters for letter in piece):
                return bytes(letters[letter] for letter in piece)
        found = _BYTE.fullmatch(piece) if self.byte_fallback else None
        return bytes.fromhex(found[1]) if found else piece.replace(_SPACE, " ").encode()


def _kinds(step: Any) -> set[str]:
    """The types of a pipeline's step and of those inside it."""
    if not isinstance(step, dict):
        return set()
    inner = step.get("pretokenizers") or step.get("decoders") or []
    return {step["type"]}.union(*map(_kinds, inner)) if inner else {step["type"]}


@cache
def _byte_of_letter() -> dict[str, int]:
    """The letter that stands for each byte in byte-level vocabularies (Radford et al. 2019): itself where it can be
    seen, else the next free one from U+0100 on."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(256 + place): byte for place, byte in enumerate(rest)}
