"""Which of many prompts is best, within a budget of scored rows: successive halving (Karnin et al. 2013; Jamieson and
Talwalkar 2016, arXiv 1502.07943).

All candidates are scored on the first rows of the validation split; the better half goes on to more of them, until one
is left or the rows are used up. Rows come in one order for all, so candidates of a round are compared on the same ones.
A row that was scored is not scored again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from whet.errors import RecipeError
from whet.evaluate.measure import Interval, mean_of
from whet.incontext.measure import Measured
from whet.recipe import InContextPart

FEWEST = 8
"""Rows of a first look at a candidate."""


@dataclass
class Candidate:
    """A prompt under search. By validation row so far, in the search's order: whether it was right, the log of the
    right label's share, and whether it was right uncalibrated."""

    number: int
    part: InContextPart
    right: list[float] = field(default_factory=list)
    logs: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)
    rounds: int = 0

    @property
    def rows(self) -> int:
        return len(self.right)

    def rank(self, rows: int) -> tuple[float, float]:
        """Accuracy, then the mean log share of the right label, over the first rows."""
        return float(np.mean(self.right[:rows])), float(np.mean(self.logs[:rows]))

    def accuracy(self, seed: int = 0) -> Interval:
        """Over all rows that it was scored on."""
        return mean_of("accuracy", self.right).interval(seed)


Score = Callable[[Candidate, Sequence[int]], Measured]
"""A candidate and the places of validation rows -> what is measured of them."""


def search(
    parts: Sequence[InContextPart],
    score: Score,
    answers: Sequence[int],
    budget: int | None = None,
    seed: int = 0,
    done: Callable[[int, int], None] = lambda rows, of: None,
) -> list[Candidate]:
    """The candidates, the best first: those of later rounds before those of earlier ones, then by accuracy.

    `answers` [validation rows]. `budget` is how many rows are scored at most, all candidates together; None: every
    candidate on every row. `done` gets scored rows so far, and how many there will be at most. Raises RecipeError for a
    budget that gives each candidate less than FEWEST rows.
    """
    candidates = [Candidate(number, part) for number, part in enumerate(parts, start=1)]
    rows = len(answers)
    order = [int(i) for i in np.random.default_rng(seed).permutation(rows)]
    most = len(parts) * rows if budget is None else min(budget, len(parts) * rows)
    least = min(FEWEST, rows) * len(parts)
    if most < least:
        raise RecipeError(
            f"{len(parts)} candidates, and {budget:,} rows to score", where="budget", do=f"give {least:,} or more"
        )
    rounds = 1 if most == len(parts) * rows else max(1, math.ceil(math.log2(len(parts))))
    alive, spent = candidates, 0
    for number in range(1, rounds + 1):
        share = (most - spent) // (rounds - number + 1)
        seen = alive[0].rows
        first = min(rows, max(seen + share // len(alive), min(FEWEST, rows)))
        for candidate in alive:
            places = order[seen:first]
            if places:
                _note(candidate, score(candidate, places), [answers[i] for i in places])
            candidate.rounds = number
            spent += len(places)
            done(spent, most)
        alive = sorted(alive, key=lambda one: one.rank(first), reverse=True)
        alive = alive[: max(1, len(alive) // 2)] if number < rounds else alive
    return sorted(candidates, key=lambda one: (one.rounds, one.rank(one.rows)), reverse=True)


def _note(candidate: Candidate, found: Measured, answers: Sequence[int]) -> None:
    shares_RL = np.log(np.maximum(found.probabilities(), 1e-300))
    candidate.right += [float(a == b) for a, b in zip(found.chosen(), answers, strict=True)]
    candidate.plain += [float(a == b) for a, b in zip(found.logps_RL.argmax(1), answers, strict=True)]
    candidate.logs += [float(shares_RL[row, answer]) for row, answer in enumerate(answers)]
