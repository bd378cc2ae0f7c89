"""Which demonstrations a question gets, and in which order.

random    drawn by the seed, the same for all questions
diverse   MMR with relevance = mean similarity to the pool: typical rows unlike each other, the same for all
nearest   most similar to the question (Liu et al. 2022, arXiv 2101.06804)
mmr       MMR: similar to the question, unlike each other (Carbonell and Goldstein 1998)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from whet.errors import RowError
from whet.models.in_context.bm25 import BM25
from whet.recipe import InContextPart
from whet.rows import Message

NEAR = 100
"""Of the pool, the nearest rows among which mmr chooses."""
SAMPLE = 1000
"""Of the pool, rows among which diverse chooses."""
Embed = Callable[[Sequence[str]], np.ndarray]
"""Texts -> unit vectors [texts, width]."""


@dataclass(frozen=True)
class Demonstration:
    """A labelled row to show: its turns without a system prompt, the last one the answer."""

    turns: tuple[Message, ...]
    place: str = ""

    @property
    def question(self) -> str:
        return str(self.turns[-2]["content"])

    @property
    def answer(self) -> str:
        return str(self.turns[-1]["content"])


class Chooser:
    """Chooses from a pool as `part` says. Raises RowError for a pool with too few rows, or too few of a label.

    `embed` is asked for embeddings alone. Ties go to the earlier row.
    """

    def __init__(self, pool: Sequence[Demonstration], part: InContextPart, embed: Embed | None = None):
        self.pool, self.part = list(pool), part
        self._labels = sorted({shown.answer for shown in pool})
        self._check()
        self._embed = embed
        self._cache: dict[str, list[int]] = {}
        wanted = part.shots > 0 and part.choose != "random"
        texts = [shown.question for shown in pool] if wanted else []
        self._bm25 = BM25(texts) if wanted and part.similarity == "bm25" else None
        self._vectors = None
        if wanted and part.similarity == "embeddings":
            assert embed is not None, "embeddings need a model"
            self._vectors = embed(texts)

    @property
    def by_question(self) -> bool:
        """Whether questions differ in what they are shown."""
        return self.part.shots > 0 and self.part.choose in ("nearest", "mmr")

    def fixed(self) -> list[Demonstration]:
        """What all questions are shown, in order."""
        assert not self.by_question
        random = np.random.default_rng(self.part.seed)
        if not self.part.shots:
            return []
        if self.part.choose == "random":
            chosen = self._spread([int(i) for i in random.permutation(len(self.pool))])
        else:
            among = sorted(int(i) for i in random.permutation(len(self.pool))[:SAMPLE])
            similarity = self._similarities(among)
            chosen = self._diverse(among, similarity.mean(1), similarity)
        return [self.pool[i] for i in self._mixed(chosen)]

    def __call__(self, question: str) -> list[Demonstration]:
        """What this question is shown, in order."""
        if question not in self._cache:
            self._cache[question] = self._for(question)
        return [self.pool[i] for i in self._cache[question]]

    def _for(self, question: str) -> list[int]:
        scores = self._relevance(question)
        order = [int(i) for i in np.argsort(-scores, kind="stable")]
        if self.part.choose == "nearest":
            chosen = self._spread(order)
        else:
            among = self._spread(order, max(NEAR, 4 * self.part.shots))
            chosen = self._diverse(among, _scaled(scores[among]), self._similarities(among))
        if self.part.order == "random":
            return self._mixed(chosen)
        chosen.sort(key=lambda i: (-scores[i], i))  # the nearest first
        return chosen if self.part.order == "nearest-first" else chosen[::-1]

    def _mixed(self, chosen: list[int]) -> list[int]:
        random = np.random.default_rng([self.part.seed, 1])
        return [chosen[int(i)] for i in random.permutation(len(chosen))]

    def _relevance(self, question: str) -> np.ndarray:
        if self._bm25 is not None:
            return self._bm25.scores(question)
        assert self._vectors is not None
        assert self._embed is not None
        return np.asarray(self._vectors @ self._embed([question])[0], dtype=np.float64)

    def _similarities(self, among: list[int]) -> np.ndarray:
        """[among, among], of BM25 each text's scores over its own score for itself, both ways' mean."""
        if self._vectors is not None:
            return np.asarray(self._vectors[among] @ self._vectors[among].T, dtype=np.float64)
        found = np.array([self._relevance(self.pool[i].question)[among] for i in among])
        shares = found / np.maximum(found.diagonal()[:, None], 1e-9)
        return np.asarray((shares + shares.T) / 2)

    def _spread(self, order: list[int], count: int | None = None) -> list[int]:
        """The first `count` (shots) of an order; where balanced, in turn of each label the first."""
        count = self.part.shots if count is None else count
        if not self.part.balanced:
            return order[:count]
        lines = {label: [i for i in order if self.pool[i].answer == label] for label in self._labels}
        first = sorted(self._labels, key=lambda label: order.index(lines[label][0]))
        rounds = [lines[label][n] for n in range(len(order)) for label in first if n < len(lines[label])]
        return rounds[:count]

    def _diverse(self, among: list[int], relevance: np.ndarray, similarity: np.ndarray) -> list[int]:
        order = mmr(relevance, similarity, len(among), self.part.mmr_lambda)
        return self._spread([among[n] for n in order])

    def _check(self) -> None:
        shots = self.part.shots
        if shots > len(self.pool):
            raise RowError(f"{shots} shots, and {len(self.pool):,} rows to show", do="give more rows, or fewer shots")
        if self.part.balanced and shots:
            for label in sorted(set(self.part.labels) | set(self._labels)):
                there = sum(shown.answer == label for shown in self.pool)
                need = shots // max(len(set(self.part.labels) | set(self._labels)), 1)
                if there < max(need, 1):
                    raise RowError(
                        f"{there} rows are labelled {label!r}, and {shots} balanced shots want {max(need, 1)}",
                        do="give more of them, fewer shots, or leave out --balanced",
                    )


def mmr(relevance: np.ndarray, similarity: np.ndarray, count: int, mmr_lambda: float = 0.5) -> list[int]:
    """Maximal marginal relevance (Carbonell and Goldstein 1998): one by one the candidate with the largest

        lambda relevance - (1 - lambda) (similarity to the most similar one already chosen)

    relevance [N], similarity [N, N]. Ties go to the earlier."""
    closest = np.zeros(len(relevance))
    left = np.ones(len(relevance), dtype=bool)
    chosen: list[int] = []
    for _ in range(min(count, len(relevance))):
        worth = np.where(left, mmr_lambda * relevance - (1 - mmr_lambda) * closest, -np.inf)
        best = int(worth.argmax())
        chosen.append(best)
        left[best] = False
        closest = similarity[:, best] if len(chosen) == 1 else np.maximum(closest, similarity[:, best])
    return chosen


def _scaled(scores: np.ndarray) -> np.ndarray:
    """Over the largest, so that relevance and similarity are of one size."""
    return np.asarray(scores / max(float(scores.max(initial=0)), 1e-9))
