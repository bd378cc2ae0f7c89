"""BM25 and MMR beside values computed by hand and slow, obvious versions; what each choice shows, in which order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from whet.errors import RowError
from whet.models.in_context.bm25 import BM25
from whet.models.in_context.choose import Chooser, Demonstration, mmr
from whet.recipe import InContextPart


def shown(question: str, answer: str = "a") -> Demonstration:
    return Demonstration(({"role": "user", "content": question}, {"role": "assistant", "content": answer}), question)


def test_bm25_by_hand() -> None:
    index = BM25(["the cat sat", "the dog ran after the cat", "A bird!"])
    # mean length 11/3; "cat" is in 2 of 3 texts, "bird" in 1
    cat, bird = math.log(1 + 1.5 / 2.5), math.log(1 + 2.5 / 1.5)
    short, long, two = (1.5 * (0.25 + 0.75 * n / (11 / 3)) for n in (3, 6, 2))
    expected = [cat * 2.5 / (1 + short), cat * 2.5 / (1 + long), bird * 2.5 / (1 + two)]
    assert index.scores("Cat bird, unknown") == pytest.approx(expected)
    assert index.scores("cat cat")[0] == pytest.approx(2 * expected[0])
    # "the": twice in the second text
    the = cat * 2 * 2.5 / (2 + long)
    assert index.scores("the")[1] == pytest.approx(the)


def test_mmr_by_hand() -> None:
    relevance = np.array([0.9, 0.85, 0.5])
    similarity = np.array([[1, 0.95, 0.1], [0.95, 1, 0.2], [0.1, 0.2, 1]])
    # first 0 (.45). Then 1: .425 - .475 = -.05; 2: .25 - .05 = .2. So 2 before 1.
    assert mmr(relevance, similarity, 3) == [0, 2, 1]
    assert mmr(relevance, similarity, 2, mmr_lambda=1.0) == [0, 1]
    assert mmr(relevance, similarity, 9, mmr_lambda=0.0) == [0, 2, 1]


def slow_mmr(relevance: Sequence[float], similarity: np.ndarray, count: int, weight: float) -> list[int]:
    chosen: list[int] = []
    while len(chosen) < count:
        rest = [i for i in range(len(relevance)) if i not in chosen]
        worth = {
            i: weight * relevance[i] - (1 - weight) * max((similarity[i, j] for j in chosen), default=0) for i in rest
        }
        chosen.append(max(rest, key=lambda i: worth[i]))
    return chosen


def test_mmr_is_the_slow_one() -> None:
    random = np.random.default_rng(0)
    for weight in (0.2, 0.5, 0.9):
        vectors = random.normal(size=(30, 4))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        relevance = random.random(30)
        similarity = vectors @ vectors.T
        assert mmr(relevance, similarity, 12, weight) == slow_mmr(list(relevance), similarity, 12, weight)


POOL = [
    shown("red apple pie", "food"), shown("red apple cake", "food"), shown("green apple pie", "food"),
    shown("fast red car", "car"), shown("slow green car", "car"), shown("blue bus", "bus"),
]  # fmt: skip


def choose(question: str, **settings: Any) -> list[str]:
    chooser = Chooser(POOL, InContextPart(**settings), embed=counted)
    return [one.question for one in (chooser(question) if chooser.by_question else chooser.fixed())]


def counted(texts: Sequence[str]) -> np.ndarray:
    """Embeddings that can be followed by hand: which of four words a text has."""
    found = np.array([[float(word in text) for word in ("apple", "car", "red", "bus")] for text in texts]) + 1e-9
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_the_nearest_come_last() -> None:
    wanted = ["red apple pie", "red apple cake", "fast red car"]  # 2 words, 2 words of one less common, 1 word
    scores = BM25([one.question for one in POOL]).scores("a red apple pie")
    best = [POOL[i].question for i in np.argsort(-scores, kind="stable")[:3]]
    assert best[0] == wanted[0]
    assert choose("a red apple pie", choose="nearest", shots=3) == best[::-1]
    assert choose("a red apple pie", choose="nearest", shots=3, order="nearest-first") == best
    assert sorted(choose("a red apple pie", choose="nearest", shots=3, order="random")) == sorted(best)


def test_the_nearest_by_embeddings() -> None:
    found = choose("red car", choose="nearest", similarity="embeddings", shots=2)
    assert found == ["slow green car", "fast red car"]  # cosines 1/sqrt 2 and 1; the apples' are 1/2


def test_mmr_leaves_out_what_is_alike() -> None:
    near = choose("red apple", choose="nearest", similarity="embeddings", shots=2)
    assert set(near) == {"red apple pie", "red apple cake"}
    assert set(choose("red apple", choose="mmr", similarity="embeddings", shots=2, mmr_lambda=0.6)) == set(near)
    # weighted .4 and .6 the other pie is worth .4 - .6, the red car .2 - .3, what has no word of them 0
    far = choose("red apple", choose="mmr", similarity="embeddings", shots=2, mmr_lambda=0.4)
    assert far[1] == "red apple pie"  # the nearest last
    assert far[0] in ("slow green car", "blue bus")


def test_diverse_ones_are_the_same_for_all_and_unlike() -> None:
    found = choose("", choose="diverse", similarity="embeddings", shots=3, mmr_lambda=0.3)
    assert {POOL_LABEL[question] for question in found} == {"food", "car", "bus"}
    assert choose("", choose="diverse", shots=3) == choose("other", choose="diverse", shots=3)


POOL_LABEL = {one.question: one.answer for one in POOL}


@pytest.mark.parametrize("how", ["random", "diverse", "nearest", "mmr"])
def test_balanced_has_as_many_of_each(how: str) -> None:
    found = choose("red apple pie", choose=how, shots=3, balanced=True)
    assert sorted(POOL_LABEL[question] for question in found) == ["bus", "car", "food"]
    found = choose("red apple pie", choose=how, shots=5, balanced=True)
    assert [POOL_LABEL[question] for question in found].count("bus") == 1


def test_seeds_draw_and_order_anew() -> None:
    draws = {tuple(choose("", shots=4, seed=seed)) for seed in range(8)}
    assert len(draws) > 4
    assert choose("", shots=4, seed=3) == choose("", shots=4, seed=3)
    assert choose("", shots=0) == []


def test_too_few_rows_are_told() -> None:
    with pytest.raises(RowError, match="7 shots, and 6 rows"):
        choose("", shots=7)
    with pytest.raises(RowError, match="1 rows are labelled 'bus', and 6 balanced shots want 2"):
        choose("", shots=6, balanced=True)
    with pytest.raises(RowError, match="0 rows are labelled 'train'"):
        choose("", shots=4, balanced=True, labels=["bus", "car", "food", "train"])
