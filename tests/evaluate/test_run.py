"""Whole evaluations of a tiny model, and comparisons of simulated ones."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scipy import stats

from whet.errors import RecipeError, RowError
from whet.evaluate.compare import compare, difference, exact_binomial
from whet.evaluate.measure import mean_of
from whet.evaluate.result import write
from whet.evaluate.run import evaluate
from whet.evaluate.subject import open_subject


@pytest.fixture
def data(tmp_path):
    rows = [
        {"prompt": f"where is the {animal}?", "completion": answer, "topic": topic, "options": ["the mat", "home"]}
        for animal, answer, topic in [("cat", "the mat", "in"), ("dog", "home", "out"), ("wren", "home", "out")] * 4
    ]
    path = tmp_path / "test.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def opened(model_folder):
    return open_subject(str(model_folder))


def plain(opened, data):
    """nats and targets of each row, by transformers alone, float64."""
    model, rows = opened.model.double(), []
    for line in Path(data).read_text().splitlines():
        row = json.loads(line)
        turns = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]
        [rendered] = opened.renderer.conversation(turns)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([rendered.ids.tolist()])).logits[0].double()
        ids = torch.tensor(rendered.ids[1:].astype(np.int64))
        logps = logits[:-1].log_softmax(-1).gather(1, ids[:, None])[:, 0].numpy()
        rows.append((logps[rendered.targets[1:]].sum(), rendered.targets[1:].sum(), len(row["completion"])))
    model.float()
    return np.array(rows)


def test_perplexity_of_answers_is_that_of_plain_transformers(opened, data):
    found = evaluate(opened, data, ["perplexity"])
    nats, targets, size = plain(opened, data).sum(0)
    assert found["perplexity"] == pytest.approx(math.exp(-nats / targets), rel=1e-5)
    assert found["bits_per_byte"] == pytest.approx(-nats / math.log(2) / size, rel=1e-5)
    low, high = found.intervals["perplexity"].low, found.intervals["perplexity"].high
    assert low < found["perplexity"] < high


def test_choices_and_labels_agree_where_they_are_the_same(opened, data):
    found = evaluate(opened, data, ["choice", "classify"], slices=["topic"])
    assert found["choice"] == found["classify"]
    assert set(found.slices["topic"]) == {"out"}  # the other has fewer than five rows
    by_row = found.measured[0].values_R
    assert found.slices["topic"]["out"]["choice"].value == by_row[[n for n in range(12) if n % 3]].mean()


def test_answers_are_judged_and_written_down(opened, data, tmp_path):
    def polite(completions, prompt, topic, **columns):
        assert len(prompt) == len(topic) == len(completions)
        return {"polite": ["please" in text for text in completions], "out": [one == "out" for one in topic]}

    found = evaluate(opened, data, ["exact_match", "length", polite], slices=["topic"], max_new_tokens=4)
    assert found["polite"] == 0
    assert found["out"] == pytest.approx(2 / 3)
    page = write(found, tmp_path / "evaluation")
    tree = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    assert tree["figures"]["out"]["value"] == pytest.approx(2 / 3)
    table = pq.read_table(tmp_path / "evaluation" / "rows.parquet")
    assert table["completion"].to_pylist() == found.columns["completion"]
    assert table["out"].to_pylist() == [0.0, 1.0, 1.0] * 4
    assert "exact_match" in page.read_text()
    assert "<script" not in page.read_text()


def test_an_error_in_a_metric_names_the_row(opened, data):
    def fussy(completions, prompt, **columns):
        return [1 / (0 if "dog" in text else 1) for text in prompt]

    with pytest.raises(RowError, match=r"test\.jsonl:2: metric fussy: ZeroDivisionError"):
        evaluate(opened, data, [fussy], max_new_tokens=2)
    with pytest.raises(RecipeError, match="must give a number a row, 12 in all"):
        evaluate(opened, data, [lambda completions, **columns: 0.5], max_new_tokens=2)


def test_what_cannot_be_measured_is_said(opened, data, tmp_path):
    with pytest.raises(RecipeError, match=r"no metric 'perplexty'\. Did you mean 'perplexity'"):
        evaluate(opened, data, ["perplexty"])
    with pytest.raises(RecipeError, match="no column 'topics'"):
        evaluate(opened, data, ["choice"], slices=["topics"])
    (tmp_path / "texts.jsonl").write_text('{"text": "a cat"}\n{"text": "a dog"}\n')
    with pytest.raises(RowError, match="no prompt and answer"):
        evaluate(opened, str(tmp_path / "texts.jsonl"), ["exact_match"])
    own = tmp_path / "own.py"
    own.write_text("def polite(completions, **columns): return [1.0 for _ in completions]\n")
    assert evaluate(opened, data, [f"{own}:polite"], max_new_tokens=2)["polite"] == 1
    with pytest.raises(RecipeError, match=r"no function 'polit'\. Did you mean 'polite'"):
        evaluate(opened, data, [f"{own}:polit"])


def test_a_comparison_pairs_rows(opened, data, model_folder, make_model, tmp_path):
    a = evaluate(opened, data, ["perplexity", "exact_match"], max_new_tokens=4)
    found = compare(a, a)
    assert [(one.p, one.verdict, one.won, one.lost, one.tied) for one in found.differences] == [
        (1.0, "within noise", 0, 0, 12)
    ] * len(found.differences)
    write(a, tmp_path / "compared", found)
    other = evaluate(opened, data + "#6", ["perplexity"])
    with pytest.raises(RowError, match="12 and 6 rows that are not the same"):
        compare(a, other)


def test_mcnemar_is_scipys():
    for won, lost in [(0, 0), (1, 0), (8, 2), (30, 41), (300, 200)]:
        expected = stats.binomtest(won, won + lost).pvalue if won + lost else 1.0
        assert exact_binomial(won, lost) == pytest.approx(expected, rel=1e-6)


def simulated(draw, rows, gain):
    """Two models, right on 60 % of rows, of which they share most; the second better by `gain`."""
    hard = draw.random(rows)
    flips = draw.random((2, rows)) < 0.07
    sides = [((hard < 0.6 + extra) ^ flip).astype(float) for extra, flip in zip((0, gain / 0.86), flips, strict=True)]
    return [mean_of("accuracy", side) for side in sides]


def test_equals_are_within_noise_and_five_points_are_found():
    draw = np.random.default_rng(0)
    equal = [difference(*simulated(draw, 1000, 0.0)).verdict for _ in range(100)]
    assert equal.count("within noise") >= 95
    better = [difference(*simulated(draw, 1000, 0.05)).verdict for _ in range(20)]
    assert better.count("better") >= 18
