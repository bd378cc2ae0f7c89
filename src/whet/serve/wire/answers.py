"""How answers look: the JSON of OpenAI's API, made from pieces of answers."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from whet.serve.inference.choice import Piece, TokenLogp
from whet.tokens.pieces import Bytes

LEAST = -9999.0
"""What stands for the logarithm of nothing, which JSON cannot hold."""


@dataclass(frozen=True)
class Envelope:
    """What all chunks of one answer have in common."""

    kind: str  # "chat.completion" or "text_completion"
    model: str
    id: str = ""
    created: int = field(default_factory=lambda: int(time.time()))

    @classmethod
    def of(cls, kind: str, model: str) -> Envelope:
        prefix = "chatcmpl" if kind.startswith("chat") else "cmpl"
        return cls(kind, model, f"{prefix}-{secrets.token_hex(14)}")

    def filled(self, choices: Sequence[dict[str, Any]], chunk: bool = False, **more: Any) -> dict[str, Any]:
        kind = f"{self.kind}.chunk" if chunk and self.kind.startswith("chat") else self.kind
        return {
            "id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices, **more
        }  # fmt: skip


@dataclass
class Gathered:
    """The pieces of one answer, put together."""

    text: str = ""
    tokens: list[TokenLogp] = field(default_factory=list)
    finish: str | None = None
    generated: int = 0

    def add(self, piece: Piece) -> None:
        self.text += piece.text
        self.tokens += piece.tokens
        self.finish, self.generated = piece.finish, piece.generated


def usage(prompt: int, generated: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated}


def event(data: Mapping[str, Any]) -> str:
    """A server-sent event."""
    return f"data: {as_json(data)}\n\n"


DONE = "data: [DONE]\n\n"


def as_json(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def chat_logprobs(tokens: Sequence[TokenLogp], names: Bytes) -> dict[str, Any]:
    return {
        "content": [
            {**_token(token.id, token.logp, names), "top_logprobs": [_token(*pair, names) for pair in token.top]}
            for token in tokens
        ],
        "refusal": None,
    }


def text_logprobs(tokens: Sequence[TokenLogp], names: Bytes, offset: int) -> dict[str, Any]:
    """The older form, of completions. `offset`: characters of text before these tokens."""
    texts = [_text(names.of(token.id)) for token in tokens]
    offsets = []
    for text in texts:
        offsets.append(offset)
        offset += len(text)
    tops: list[dict[str, float] | None] = []
    for token in tokens:
        top: dict[str, float] = {}
        for id, logp in token.top:  # two tokens may be one text: the likelier comes first
            top.setdefault(_text(names.of(id)), _number(logp))
        tops.append(None if token.logp is None else top)
    return {
        "tokens": texts,
        "token_logprobs": [None if token.logp is None else _number(token.logp) for token in tokens],
        "top_logprobs": tops,
        "text_offset": offsets,
    }


def _token(id: int, logp: float | None, names: Bytes) -> dict[str, Any]:
    held = names.of(id)
    return {"token": _text(held), "logprob": _number(logp), "bytes": list(held)}


def _text(held: bytes) -> str:
    """A token's bytes as text; where they are not whole characters, in OpenAI's way of writing that."""
    try:
        return held.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in held)


def _number(logp: float | None) -> float:
    return LEAST if logp is None else max(logp, LEAST)
