"""One answer while it is written: its settings, its text so far, and where that ends."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from whet.models.generate import Text

Finish = Literal["stop", "length"]
Top = list[tuple[int, float]]
"""Tokens and their log-probabilities, the likeliest first."""


@dataclass(frozen=True)
class Sampling:
    """How tokens of an answer are chosen, by the names of OpenAI's API. `top_logprobs`: how many alternatives are told
    beside each token's log-probability; None: no log-probabilities."""

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None

    @property
    def adjusts(self) -> bool:
        """Whether logits change before a token is chosen."""
        return bool(self.presence_penalty or self.frequency_penalty or self.logit_bias)


@dataclass(frozen=True, slots=True)
class TokenLogp:
    """A token, its log-probability under the model (temperature 1, no penalty, no bias), None where nothing comes
    before it, and the likeliest there."""

    id: int
    logp: float | None
    top: Top


@dataclass(frozen=True, slots=True)
class Piece:
    """What came of one step for one answer; the last has `finish` or `fault`. `tokens` are told where
    log-probabilities were asked for: those whose text is in the pieces up to this one."""

    choice: int
    text: str
    tokens: Sequence[TokenLogp] = ()
    finish: Finish | None = None
    fault: str | None = None
    generated: int = 0  # tokens so far


class Choice:
    """`number` is the answer's place in its request; it draws the numbers that row `number` of `whet generate` would
    draw at this seed."""

    def __init__(self, number: int, prompt: list[int], room: int, tokenizer: Any, sampling: Sampling):
        self.number, self.prompt, self.room, self.sampling = number, prompt, room, sampling
        self.ids: list[int] = []
        self.counts: Counter[int] = Counter()
        self.random = np.random.default_rng([sampling.seed, number])
        self.logps: deque[tuple[float, Top]] = deque()  # of tokens that `take` has not seen
        self.fault: str | None = None
        self._text = Text(tokenizer, prompt)
        self._until = Until(sampling.stop)
        self._untold: deque[tuple[int, int, TokenLogp]] = deque()  # where a token's text begins and ends
        self._length = 0  # characters of text so far, told or not

    def take(self, token: int, stops: bool, last: bool) -> Piece:
        """The next token; `stops`: it is one that ends answers; `last`: no room for another."""
        self.ids.append(token)
        self.counts[token] += 1
        before, text = self._length, "" if stops else self._text.add(token)
        if stops or last:
            text += self._text.rest()
        self._length += len(text)
        told, found = self._until.add(text)
        ends = found or stops or last
        if ends and not found:
            told += self._until.rest()
        if self.logps:
            logp, top = self.logps.popleft()
            if not stops:
                self._untold.append((before, self._length, TokenLogp(token, logp, top)))
        finish: Finish | None = None if not ends else "stop" if found or stops else "length"
        return Piece(self.number, told, self._told_tokens(found), finish, generated=len(self.ids))

    def _told_tokens(self, found: bool) -> list[TokenLogp]:
        """Tokens whose text is told, or was begun before a stop was found."""
        told = []
        while self._untold:
            begin, end, token = self._untold[0]
            if end > self._until.told and not (found and begin < self._until.told):
                break
            self._untold.popleft()
            told.append(token)
        return told


class Until:
    """Text up to the first of some strings. What may be the beginning of one is held back until it is known."""

    def __init__(self, stops: Sequence[str]):
        self.stops = stops
        self.told = 0
        self._held = ""

    def add(self, text: str) -> tuple[str, bool]:
        """The text that may be told now, and whether a stop was found: it and what follows are never told."""
        self._held += text
        places = [place for stop in self.stops if (place := self._held.find(stop)) >= 0]
        if places:
            return self._tell(min(places)), True
        held = max((_overlap(self._held, stop) for stop in self.stops), default=0)
        return self._tell(len(self._held) - held), False

    def rest(self) -> str:
        """What was held back, at the end."""
        return self._tell(len(self._held))

    def _tell(self, length: int) -> str:
        text, self._held = self._held[:length], self._held[length:]
        self.told += length
        return text


def _overlap(text: str, stop: str) -> int:
    """Characters at the end of a text that a stop may begin with."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)
