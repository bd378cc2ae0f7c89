"""Choosing rows for a target, against DSIR's authors' own code and slow versions."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from whet.data.curation import engine
from whet.data.curation.pipeline import curate
from whet.data.steps.ngrams import counted, ngrams
from whet.data.steps.select import chosen, divergence, effective_size, held_apart, log_ratios, log_weights
from whet.errors import RecipeError, RowError

MONEY = [
    "revenue",
    "profit",
    "margin",
    "shares",
    "dividend",
    "cash",
    "quarter",
    "million",
    "net",
    "income",
    "fell",
    "rose",
]
FOREST = ["moss", "oak", "deer", "river", "fox", "stone", "rain", "path", "owl", "winter", "slept", "ran"]
PAPER = Path(__file__).parent / "dsir.json"
"""Log importance weights by `HashedNgramDSIR` of data-selection 1.0.3, its hash function replaced by the one of
tests/data/steps/test_ngrams.py, every example counted, none too short."""


def sentences(words: list[str], count: int, seed: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    return [{"text": " ".join(draw.choices(words, k=12))} for _ in range(count)]


def test_weights_equal_those_of_the_authors_package() -> None:
    paper = json.loads(PAPER.read_text(encoding="utf-8"))
    ratios = log_ratios(counted(paper["target"]), counted(paper["raw"]), smoothing=0)
    assert log_weights(paper["raw"], ratios) == pytest.approx(paper["log_weights"], abs=1e-9)


def test_smoothed_weights_equal_a_slow_version() -> None:
    raw, target = ["a b a c", "b b d", "e"], ["a c", "a a"]
    of_raw, of_target = ({}, {})
    for texts, counts in ((raw, of_raw), (target, of_target)):
        for bucket in ngrams(texts)[0].tolist():
            counts[bucket] = counts.get(bucket, 0) + 1
    total, shown = sum(of_raw.values()), sum(of_target.values())
    expected = []
    for text in raw:
        weight = 0.0
        for bucket in ngrams([text])[0].tolist():
            p_raw = of_raw[bucket] / total
            p_target = (of_target.get(bucket, 0) + 3.5 * p_raw) / (shown + 3.5)
            weight += math.log(p_target + 1e-8) - math.log(p_raw + 1e-8)
        expected.append(weight)
    found = log_weights(raw, log_ratios(counted(target), counted(raw), 3.5))
    assert found == pytest.approx(expected, abs=1e-12)
    assert found[0] > found[1]


def test_rows_are_drawn_in_proportion_to_their_weights() -> None:
    draw = np.random.default_rng(0)
    scores = np.log([1.0, 2.0, 5.0])
    times = 4000
    first = np.bincount([chosen(scores, 1, 1.0, draw)[0] for _ in range(times)], minlength=3) / times
    assert first == pytest.approx([1 / 8, 2 / 8, 5 / 8], abs=4 * math.sqrt(0.25 / times))
    # two without replacement: row 0 is left out with p(1, 2) + p(2, 1) = 2/8 * 5/6 + 5/8 * 2/3
    without_0 = np.mean([0 not in chosen(scores, 2, 1.0, draw) for _ in range(times)])
    assert without_0 == pytest.approx(2 / 8 * 5 / 6 + 5 / 8 * 2 / 3, abs=4 * math.sqrt(0.25 / times))
    assert chosen(np.array([3.0, 9.0, 1.0, 9.0]), 3, 0, draw).tolist() == [0, 1, 3]


def test_divergence_by_hand() -> None:
    # other is smoothed to (1.5, 2.5, 0.5) / 4.5
    expected = 0.75 * math.log(0.75 / (1.5 / 4.5)) + 0.25 * math.log(0.25 / (2.5 / 4.5))
    assert divergence(np.array([3, 1, 0]), np.array([1, 2, 0])) == pytest.approx(expected)


def test_effective_size_by_hand() -> None:
    assert effective_size(np.log([1.0, 1.0, 2.0]) + 800) == pytest.approx(16 / 6)


def test_every_fifth_target_row_is_held_out_where_there_are_fifty() -> None:
    texts = [str(number) for number in range(50)]
    assert held_apart(texts) == ([t for t in texts if int(t) % 5 != 4], texts[4::5])
    assert held_apart(texts[:49]) == (texts[:49], [])


@pytest.fixture
def target(tmp_path: Path) -> str:
    path = tmp_path / "target.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in sentences(MONEY, 60, seed=1)))
    return str(path)


def mixture() -> list[dict[str, Any]]:
    rows = [row | {"domain": "forest"} for row in sentences(FOREST, 180, 2)]
    rows += [row | {"domain": "money"} for row in sentences(MONEY, 20, 3)]
    random.Random(0).shuffle(rows)
    return rows


def test_rows_like_the_target_are_chosen_and_the_gain_is_told(target: str) -> None:
    steps = [{"select": {"target": target, "keep": 0.1, "importance": True}}]
    done = curate(mixture(), steps)
    assert done.rows is not None
    assert [row["domain"] for row in done.rows] == ["money"] * 20
    assert all(row["importance"] > 0 for row in done.rows)
    notes = done.ledger.steps[0].notes
    assert notes["target"] == {"rows": 48, "held out": 12, "n-grams": 48 * 23}
    # the ledger's KL is the one of all n-grams of held-out target rows, counted anew
    held_out = [row["text"] for row in sentences(MONEY, 60, seed=1)][4::5]
    of = [counted([row["text"] for row in rows]) for rows in (mixture(), done.rows)]
    before, after = (divergence(counted(held_out), counts) for counts in of)
    assert notes["KL reduction"]["nats an n-gram"] == pytest.approx(before - after, abs=1e-4)
    assert before - after > 0.5
    assert done.ledger.steps[0].reasons["less like the target"] == 180


def test_the_choice_does_not_depend_on_how_rows_are_cut(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [{"select": {"target": [target], "rows": 30, "temperature": 20}}]
    whole = curate(mixture(), steps)
    monkeypatch.setattr(engine, "BATCH", 7)
    cut = curate(mixture(), steps)
    assert whole.rows == cut.rows
    assert whole.ledger.steps[0].content.hexdigest() == cut.ledger.steps[0].content.hexdigest()
    assert 0 < sum(row["domain"] == "forest" for row in whole.rows or []) < 30  # so warm that some are drawn


def letters(texts: list[str]) -> np.ndarray:
    return np.array([[text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts], float)


@pytest.mark.parametrize("nearest", [False, True])
def test_by_a_lent_models_embeddings(target: str, nearest: bool) -> None:
    steps = [{"select": {"target": target, "rows": 20, "by": "embedding", "nearest": nearest}}]
    done = curate(mixture(), steps, embed=letters)
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (
        letters([row["text"] for row in mixture()]), letters([row["text"] for row in sentences(MONEY, 60, 1)])
    )]  # fmt: skip
    towards = unit[1] if nearest else unit[1].mean(axis=0, keepdims=True)
    cosines = (unit[0] @ (towards / np.linalg.norm(towards, axis=1, keepdims=True)).T).max(axis=1)
    best = sorted(np.argsort(-cosines, kind="stable")[:20].tolist())
    assert done.rows == [mixture()[number] for number in best]
    assert done.ledger.steps[0].notes["mean cosine"]["chosen"] == pytest.approx(cosines[best].mean(), abs=1e-4)


def test_without_a_lent_model_the_message_says_how_to_lend_one(target: str) -> None:
    with pytest.raises(RecipeError, match="embed=function"):
        curate(mixture(), [{"select": {"target": target, "rows": 2, "by": "embedding"}}])


def test_an_embedding_of_the_wrong_shape_is_an_error(target: str) -> None:
    with pytest.raises(RecipeError, match=r"\(5,\)"):
        curate(mixture(), [{"select": {"target": target, "rows": 2, "by": "embedding"}}], embed=lambda _: np.zeros(5))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give `keep`"),
        ({"keep": 0.1, "rows": 3}, "give `keep`"),
        ({"keep": 1.5}, "less than or equal to 1"),
        ({"rows": 3, "target": []}, "at least 1 item"),
    ],
)
def test_settings_that_cannot_be(target: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        curate(mixture(), [{"select": {"target": target} | settings}])


def test_a_target_that_is_not_there_or_has_no_text(tmp_path: Path) -> None:
    with pytest.raises(RowError, match="nowhere"):
        curate(mixture(), [{"select": {"target": str(tmp_path / "nowhere.jsonl"), "rows": 3}}])
    (tmp_path / "empty.jsonl").write_text('{"text": ""}\n')
    with pytest.raises(RowError, match="no text"):
        curate(mixture(), [{"select": {"target": str(tmp_path / "empty.jsonl"), "rows": 3}}])


DATA = Path(__file__).parents[3] / "../shared/data"


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the public data sets in ../shared/data")
def test_financial_rows_among_contracts_and_sums(tmp_path: Path) -> None:
    def financial(name: str) -> list[dict[str, Any]]:
        blocks = json.loads((DATA / "domain/finance_tatqa" / name).read_text(encoding="utf-8"))
        return [
            {"text": "\n".join([*(p["text"] for p in b["paragraphs"]), *(q["question"] for q in b["questions"])])}
            for b in blocks
        ]

    def lines(name: str, key: str, count: int) -> list[dict[str, Any]]:
        with (DATA / name).open(encoding="utf-8") as file:
            return [{"text": json.loads(line)[key]} for line, _ in zip(file, range(count), strict=False)]

    planted = [row | {"domain": "finance"} for row in financial("tatqa_dataset_dev.json")[:150]]
    rows = planted + lines("domain/legal_cuad_clauses/cuad_clauses.jsonl", "text", 1400)
    rows += lines("instruct/gsm8k/train.jsonl", "question", 1400)
    target = tmp_path / "target.jsonl"
    target.write_text("".join(json.dumps(row) + "\n" for row in financial("tatqa_dataset_test_gold.json")[:12]))
    random.Random(0).shuffle(rows)
    done = curate(rows, [{"select": {"target": str(target), "rows": 150}}])
    assert sum(row.get("domain") == "finance" for row in done.rows or []) >= 120  # of 150; 8 would be by chance
    assert done.ledger.steps[0].notes["KL reduction"]["nats an n-gram"] > 0.15
