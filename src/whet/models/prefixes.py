"""Beginnings of prompts that are kept for prompts to come.

That two prompts begin alike shows that a third may. So the beginning that a prompt shares with a recent one becomes a
segment by itself, and stays when its rows have ended: the first two compute it, whoever comes after finds it. What was
used longest ago is forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

import numpy as np

RECENT = 64
"""Prompts that the next one is compared with."""

WORTH = 32
"""Tokens; each segment is a product of its own in every layer and step, and a short one saves less than that costs."""

DEEPEST = 8
"""Segments behind each other, for the same reason."""


class Prefixes:
    """Segments that are held, by number, at most so many `tokens` of them beyond those in use; 0 holds none."""

    def __init__(self, tokens: int):
        self.tokens = tokens
        self.recent: deque[np.ndarray] = deque(maxlen=RECENT)
        self.held: OrderedDict[int, tuple[int | None, np.ndarray]] = OrderedDict()  # parent and ids; last used, last

    def find(self, ids: np.ndarray) -> list[int]:
        """The held segments that a prompt goes through, the longest at each place, but never to its end: there a token
        must be left to compute."""
        line: list[int] = []
        depth, parent = 0, None
        while len(line) < DEEPEST:
            fit = [
                number
                for number, (above, held) in self.held.items()
                if above == parent and depth + len(held) < len(ids) and np.array_equal(ids[depth:][: len(held)], held)
            ]
            if not fit:
                break
            parent = max(fit, key=lambda number: len(self.held[number][1]))
            self.held.move_to_end(parent)
            line.append(parent)
            depth += len(self.held[parent][1])
        return line

    def shared(self, ids: np.ndarray) -> int:
        """Tokens that a prompt begins with as a recent one does, all but its last at most."""
        longest = 0
        for other in self.recent:
            size = min(len(ids) - 1, len(other))
            differs = ids[:size] != other[:size]
            longest = max(longest, int(differs.argmax()) if differs.any() else size)
        return longest

    def hold(self, number: int, parent: int | None, ids: np.ndarray) -> None:
        self.held[number] = (parent, ids)

    def spare(self, in_use: Callable[[int], bool]) -> list[int]:
        """Segments that are held no longer, so that the rest fits."""
        unused = [number for number in self.held if not in_use(number)]
        size = sum(len(self.held[number][1]) for number in unused)
        gone: list[int] = []
        while size > self.tokens:
            parents = {parent for parent, _ in self.held.values()}
            leaf = next(number for number in unused if number in self.held and number not in parents)
            size -= len(self.held.pop(leaf)[1])
            gone.append(leaf)
        return gone
