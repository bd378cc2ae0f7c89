"""Metrics against the packages that define them, scikit-learn, and values worked out by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sklearn import metrics as sk

from whet.answers import numbers
from whet.errors import RowError
from whet.evaluate.measure import RESAMPLES, Interval, draws, mean_of, resampled
from whet.evaluate.metrics import METRICS, labels

SAID = [
    "The cat sat on the mat.", "There is a dog in the garden, running.", "", "Revenue was 12 million dollars.",
    "no idea at all about that",
]  # fmt: skip
WANTED = [
    "The cat is sitting on the mat.", ["A dog runs there.", "There is a dog running in the garden."], "Nothing.",
    "Revenue was $12 million.", "No idea about that at all.",
]  # fmt: skip


def measure(name, said=SAID, **columns):
    return METRICS[name](said, {"reference": WANTED, **columns})


def streams():
    several = [one if isinstance(one, list) else [one] for one in WANTED]
    return [[refs[n] if n < len(refs) else None for refs in several] for n in range(2)]


@pytest.mark.parametrize(("name", "reference"), [("bleu", sacrebleu.BLEU()), ("chrf", sacrebleu.CHRF())])
def test_bleu_and_chrf_are_sacrebleus(name, reference):
    [found] = measure(name)
    score = reference.corpus_score(SAID, streams())
    assert found.value() == score.score
    assert found.notes["sacrebleu"] == str(score)
    assert found.notes["signature"].startswith("nrefs:var|")


def test_rouge_is_rouge_scores():
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    for found in measure("rouge"):
        best = []
        for text, refs in zip(SAID, WANTED, strict=True):
            several = refs if isinstance(refs, list) else [refs]
            best.append(max(scorer.score(ref, text)[found.name].fmeasure for ref in several))
        assert found.value() == np.mean(best)


def test_exact_match_and_f1_by_hand():
    said = ["The Cat!", "a red dog", "blue"]
    columns = {"reference": ["cat", "red cat", ["green", "Blue."]]}
    assert METRICS["exact_match"](said, columns)[0].values_R.tolist() == [1, 0, 1]
    assert METRICS["token_f1"](said, columns)[0].values_R.tolist() == [1, 0.5, 1]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("it is 1,234.5 in all", [(1234.5, 1)]), ("(1,200) million", [(-1200, 1e6)]), ("-3.5%", [(-3.5, 0.01)]),
        ("$4bn and 7 k", [(4, 1e9), (7, 1e3)]), ("−12", [(-12, 1)]), ("2.5e3", [(2500, 1)]), ("v2 has x3", []),
        ("1,23", [(1, 1), (23, 1)]), ("$ -5", [(-5, 1)]), (".5", [(0.5, 1)]),
    ],
)  # fmt: skip
def test_numbers_in_texts(text, found):
    assert numbers(text) == found


@pytest.mark.parametrize(
    ("said", "wanted", "tolerance", "right"),
    [
        ("so it is 72.", "72", None, 1), ("#### 1,000", "1000", None, 1), ("12 million", "12000000", None, 1),
        ("12", "12 million", None, 1), ("0.125", "12.5%", None, 1), ("12.5", "12.5%", None, 1),
        ("5 or 6", "5", None, 0), ("101", "100", 0.02, 1), ("103", "100", 0.02, 0),
        ("none", "4", None, 0), ("3 thousand", "3 million", None, 0),
    ],
)  # fmt: skip
def test_numeric_with_tolerance_and_scale(said, wanted, tolerance, right):
    [found] = METRICS["numeric"]([said], {"reference": [wanted], "tolerance": [tolerance]})
    assert found.values_R.tolist() == [right]


def test_labels_are_scikit_learns():
    draw = np.random.default_rng(0)
    names = ["maybe", "no", "yes"]
    wanted = draw.choice(names, 200)
    said = [f"{label.title()}, because" if draw.random() < 0.6 else "who knows" for label in draw.permutation(wanted)]
    columns = {"reference": wanted.tolist()}
    predicted = [labels.label_in(text, names) for text in said]
    [f1], [accuracy] = METRICS["macro_f1"](said, columns), METRICS["accuracy"](said, columns)
    assert f1.value() == pytest.approx(sk.f1_score(wanted, predicted, labels=names, average="macro", zero_division=0))
    assert accuracy.value() == sk.accuracy_score(wanted, predicted)
    matrix = sk.confusion_matrix(wanted, predicted, labels=[*names, labels.OTHER])[:3]
    assert f1.notes["confusion"] == matrix.tolist()


def test_the_longest_label_wins():
    assert labels.label_in("Not applicable here", ["not", "not applicable"]) == "not applicable"
    assert labels.label_in("nothing", ["not", "no"]) == labels.OTHER


def test_calibration_by_hand():
    probabilities = [np.array(p) for p in ([0.95, 0.05], [0.91, 0.09], [0.35, 0.65], [0.62, 0.38])]
    found = labels.calibration(probabilities, [0, 1, 1, 0])
    # bin .9-1: confidence .93, accuracy .5, 2 rows; bin .6-.7: confidence .635, accuracy 1, 2 rows
    assert found.value() == pytest.approx((2 * 0.43 + 2 * 0.365) / 4)
    assert [bin["rows"] for bin in found.notes["reliability"]] == [2, 2]


def test_structure_by_hand():
    said = ['{"a": 1, "b": {"c": "X."}}', 'Here:\n```json\n{"a": 2}\n```', "{broken", "[1, 2]"]
    wanted = ['{"a": 1.0, "b": {"c": "x"}}', '{"a": 1, "d": true}', '{"a": 1}', "[1, 3]"]
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
    columns = {"reference": wanted, "schema": [schema, json.dumps(schema), schema, schema]}
    assert METRICS["valid_json"](said, columns)[0].values_R.tolist() == [1, 1, 0, 1]
    assert METRICS["json_schema"](said, columns)[0].values_R.tolist() == [1, 1, 0, 0]
    [fields] = METRICS["fields"](said, columns)
    assert fields.values_R.tolist() == [1, 0, 0, 0.5]
    assert fields.notes["by_field"] == {"a": 1 / 3, "b.c": 1, "d": 0, "0": 1, "1": 0}
    with pytest.raises(RowError, match="row 1: broken schema"):
        METRICS["json_schema"](["{}"], {"reference": ["{}"], "schema": [{"type": "objct"}]})


def test_form_by_hand():
    said = ["I'm sorry, but I cannot do that.", 'He said "the sky is  Blue" there.', "", "I can't help with that"]
    columns = {"source": ["", "We saw that the sky is blue.", "", ""], "stopped": [True, False, True, True]}
    length, empty = METRICS["length"](said, columns)
    assert length.values_R.tolist() == [7, 7, 0, 5]
    assert empty.value() == 0.25
    assert METRICS["refusals"](said, columns)[0].values_R.tolist() == [1, 0, 0, 1]
    assert METRICS["stopped"](said, columns)[0].value() == 0.75
    [citations] = METRICS["citations"](said, columns)
    assert citations.value() == 1
    assert math.isnan(citations.values_R[0])


def test_references_that_are_missing():
    with pytest.raises(RowError, match=r"b\.jsonl:2: no reference"):
        METRICS["exact_match"](["a", "b"], {"reference": ["a", None], "place": ["b.jsonl:1", "b.jsonl:2"]})
    with pytest.raises(RowError, match="no references"):
        METRICS["bleu"](["a"], {})
    with pytest.raises(RowError, match="201 different values"):
        METRICS["accuracy"](["a"] * 201, {"reference": [str(n) for n in range(201)]})


def test_the_bootstrap_interval_of_a_mean_is_that_of_theory():
    values = np.random.default_rng(1).normal(3.0, 2.0, 800)
    found = mean_of("m", values).interval()
    half = 1.96 * values.std(ddof=1) / math.sqrt(800)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_the_bootstrap_of_sums_is_that_of_rows():
    [found] = METRICS["bleu"](SAID, {"reference": WANTED})
    drawn = found.figures(resampled(found.stats_RK, 5), len(SAID))[:20]
    metric = sacrebleu.BLEU()
    for counts, value in zip(draws(len(SAID), 5, 0, RESAMPLES), drawn, strict=False):
        rows = [row for row, count in enumerate(counts) for _ in range(int(count))]
        refs = [[stream[row] for row in rows] for stream in streams()]
        refs = [stream for stream in refs if any(stream)]
        assert value == pytest.approx(metric.corpus_score([SAID[row] for row in rows], refs).score, abs=1e-9)


@given(st.lists(st.floats(-1e6, 1e6) | st.none(), min_size=1, max_size=30))
def test_a_mean_leaves_out_what_says_nothing(values):
    there = [value for value in values if value is not None]
    found = mean_of("m", values)
    if there:
        assert found.value() == pytest.approx(np.mean(there), abs=1e-6)
    else:
        assert math.isnan(found.value())
        assert found.interval().plain()["value"] is None


def test_slices_are_figures_of_their_rows():
    found = mean_of("m", [1.0, 0.0, 1.0, 1.0])
    assert found.value(np.array([True, True, False, False])) == 0.5
    assert found.interval(rows=np.array([False, False, True, False])) == Interval(1.0, 1.0, 1.0)


def test_a_label_may_be_an_article():
    """Options are often called A, B, C, D; exact_match drops articles, as SQuAD does, and labels keep them."""
    columns = {"reference": ["A", "B", "a", "the rest"], "place": list("1234")}
    [found] = METRICS["accuracy"](["A.", "a", "B", "The rest"], columns)
    assert found.values_R.tolist() == [1.0, 0.0, 0.0, 1.0]
