"""text_similarity against the definitions: counts by hand, or a plain version of the formula."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from whet.errors import RecipeError
from whet.graders import build
from whet.recipe.graders import TextSimilarityPart

TEXT, REFERENCE = "the cat sat on the mat", "the cat lay on the mat"


def score(metric: str, text: str = TEXT, reference: str = REFERENCE) -> float | None:
    part = TextSimilarityPart(evaluation_metric=metric, reference="{{item.reference}}")  # type: ignore[arg-type]
    return build(part).grade([{"reference": reference}], [text])[0].score


def grams(text: str, size: int) -> Counter[tuple[str, ...]]:
    words = text.split()
    return Counter(tuple(words[n : n + size]) for n in range(len(words) - size + 1))


def shared(size: int) -> int:
    return sum((grams(TEXT, size) & grams(REFERENCE, size)).values())


@pytest.mark.parametrize(
    ("metric", "size"), [("rouge_1", 1), ("rouge_2", 2), ("rouge_3", 3), ("rouge_4", 4), ("rouge_5", 5)]
)
def test_rouge_n(metric: str, size: int) -> None:
    """Both texts have as many n-grams, so precision, recall and F are the same share."""
    assert score(metric) == pytest.approx(shared(size) / (6 - size + 1))


def test_rouge_l() -> None:
    assert score("rouge_l") == pytest.approx(5 / 6)  # the, cat, on, the, mat


def test_bleu() -> None:
    """5 of 6 words, 3 of 5 pairs, 1 of 4 triples; no quadruple, which is smoothed to 1 / (2 x 3) (`exp`)."""
    assert score("bleu") == pytest.approx((5 / 6 * 3 / 5 * 1 / 4 * 1 / 6) ** (1 / 4), rel=1e-6)
    assert score("bleu", REFERENCE) == pytest.approx(1)


def test_gleu() -> None:
    assert score("gleu") == pytest.approx(sum(shared(size) for size in (1, 2, 3, 4)) / (6 + 5 + 4 + 3))


def test_meteor_matches_words_and_stems() -> None:
    """Recall counts 9 times as much as precision; the penalty is half the cube of chunks over matches."""
    assert score("meteor") == pytest.approx(5 / 6 * (1 - 0.5 * (2 / 5) ** 3))
    assert score("meteor", "cats running", "cat runs") == pytest.approx(1 - 0.5 * (1 / 2) ** 3)  # both by their stems
    assert score("meteor", "a feline", "one tomcat") == 0  # synonyms are not known


def test_fuzzy_match() -> None:
    """Insertions and deletions over both lengths: "sat" to "lay" takes out two letters and puts in two."""
    assert score("fuzzy_match") == pytest.approx(1 - 4 / (len(TEXT) + len(REFERENCE)))


@pytest.mark.parametrize("metric", ["bleu", "gleu", "meteor", "rouge_1", "rouge_l"])
def test_an_empty_answer_is_unlike_everything(metric: str) -> None:
    assert score(metric, "") == 0


def test_cosine_by_a_lent_embedder() -> None:
    vectors = {"a": [1.0, 0.0], "b": [1.0, 1.0], "c": [0.0, 0.0]}
    asked: list[Any] = []

    def embed(texts: Any) -> np.ndarray:
        asked.append(list(texts))
        return np.array([vectors[text] for text in texts])

    part = TextSimilarityPart(evaluation_metric="cosine", embedding_model="mine", reference="{{item.r}}")
    grader = build(part, embedders={"mine": embed})
    found = grader.grade([{"r": "b"}, {"r": "a"}, {}, {"r": "a"}], ["a", "a", "a", "c"])
    assert [grade.score for grade in found] == [pytest.approx(1 / math.sqrt(2)), 1, None, 0]
    assert asked == [["a", "b", "c"]]  # each text once, all together
    with pytest.raises(RecipeError, match="cosine needs vectors"):
        build(part)
