"""Answers one after the other, for models whose attention takes no trie: what `Decoder` is to the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from whet.models.by_transformers import streamed
from whet.models.decode import Choose


class Sequential:
    """One row at a time, through transformers' `generate`; the methods are those of `whet.models.decode.Decoder`.

    An answer is computed in a thread of its own, ahead of who reads it, so the model must not be changed before it has
    ended: `held` says whether one is being written.
    """

    def __init__(self, model: Any, draw: Choose):
        self.model, self.draw = model, draw
        self.prompts: dict[int, tuple[list[int], int]] = {}
        self.waiting: deque[int] = deque()
        self.flight: list[int] = []
        self._rows = 0
        self._tokens: Generator[tuple[int, int, bool], None, None] | None = None

    @property
    def held(self) -> bool:
        return self._tokens is not None

    def add(self, prompts: Sequence[list[int]], rooms: Sequence[int]) -> range:
        numbers = range(self._rows, self._rows + len(prompts))
        self._rows = numbers.stop
        self.prompts |= zip(numbers, zip(prompts, rooms, strict=True), strict=True)
        self.waiting += numbers
        return numbers

    def drop(self, rows: Collection[int]) -> None:
        for row in rows:
            self.prompts.pop(row, None)
            if row in self.waiting:
                self.waiting.remove(row)
            if row in self.flight:
                self._end()

    def running(self) -> AbstractContextManager[None]:
        return nullcontext()

    def step(self, stop: frozenset[int], slots: int) -> list[tuple[int, int, bool]]:
        if self._tokens is None:
            if not self.waiting:
                return []
            row = self.waiting.popleft()
            self.flight = [row]
            prompt, room = self.prompts[row]
            self._tokens = streamed(self.model, prompt, room, lambda logits_RV, rows: self.draw(logits_RV, [row]), stop)
        _, token, last = next(self._tokens)
        told = [(self.flight[0], token, last)]
        if last:
            self._end()
        return told

    def slots(self, at_once: int) -> int:
        return 1

    def _end(self) -> None:
        if self._tokens is not None:
            self._tokens.close()
        self._tokens = None
        for row in self.flight:
            self.prompts.pop(row, None)
        self.flight = []
