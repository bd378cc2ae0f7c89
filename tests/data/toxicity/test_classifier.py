"""The classifier, against scikit-learn's figures, slow versions in plain Python, and counts by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from whet.data.toxicity.classifier import calibration, fit, load_classifier, windows
from whet.data.toxicity.measures import auroc, calibration_error, counted, rate
from whet.data.toxicity.ngrams import ngrams, plain
from whet.data.toxicity.scorers import judge
from whet.data.toxicity.training import read_labelled, split_of, train_classifier
from whet.errors import ModelError, RecipeError, RowError, StorageError

TEXTS = [
    "the soup is lovely", "you are a rotten fool", "a rotten apple fell", "what a lovely garden",
    "fools, all of you", "the fool who made soup", "you rotten soup", "thank you for the apple",
]  # fmt: skip
LABELS = np.array([0, 1, 0, 0, 1, 1, 1, 0.0])


def test_logits_are_those_of_scikit_learn() -> None:
    grams = ngrams(TEXTS, 256, (2, 3), 1)
    weight, bias = fit(grams, LABELS, 256, 0.01)
    # scikit-learn 1.9.1: LogisticRegression(C=1 / (8 * 0.01), tol=1e-12) on the same features, decision_function
    expected = [-1.712814, 1.73383, -1.465058, -2.316526, 2.086439, 1.531185, 1.672381, -1.612874]
    assert grams.times(weight) + bias == pytest.approx(expected, abs=2e-4)
    assert bias == pytest.approx(-0.346418, abs=2e-4)


def slow_keys(text: str, chars: tuple[int, int], words: int) -> list[Any]:
    coded = plain(text).encode()
    found: list[Any] = [
        coded[at : at + size] for size in range(chars[0], chars[1] + 1) for at in range(len(coded) - size + 1)
    ]
    apart = "".join(c if c.isalnum() or c == "'" or ord(c) > 127 else " " for c in plain(text)).split()
    return found + [tuple(apart[at : at + size]) for size in range(1, words + 1) for at in range(len(apart) - size + 1)]


def test_equal_ngrams_share_a_bucket_and_others_do_not() -> None:
    texts = ["Don't go, go there!", "été 2024: @sam there", "", "x"]
    grams = ngrams(texts, 1 << 24, (2, 4), 2)
    keys = [slow_keys(text, (2, 4), 2) for text in texts]
    assert np.bincount(grams.row, minlength=4).tolist() == [len(of_text) for of_text in keys]
    distinct = [len({*of_text}) for of_text in keys]
    assert [len(set(grams.bucket[grams.row == at].tolist())) for at in range(4)] == distinct
    shared = set(keys[0]) & set(keys[1])
    buckets = [set(grams.bucket[grams.row == at].tolist()) for at in (0, 1)]
    assert len(buckets[0] & buckets[1]) == len(shared) > 0


def test_a_texts_ngrams_do_not_hang_on_its_neighbours() -> None:
    together, alone = ngrams(TEXTS, 4096, (2, 5), 2), ngrams(TEXTS[2:3], 4096, (2, 5), 2)
    assert sorted(together.bucket[together.row == 2]) == sorted(alone.bucket)
    assert together.scale[2] == alone.scale[0] == pytest.approx(1 / math.sqrt(len(alone.bucket)))


def test_links_names_and_numbers_are_not_learnt() -> None:
    assert plain("See  https://a.b/c?d @Ann_1 at 17:45") == " see http @ at 0:0 "


def test_auroc_counts_pairs() -> None:
    labels, scores = np.array([0, 1, 0, 1, 1, 0, 0, 1]), np.array([0.1, 0.4, 0.4, 0.8, 0.8, 0.8, 0.2, 0.35])
    pairs = [(p > n) + 0.5 * (p == n) for p in scores[labels == 1] for n in scores[labels == 0]]
    assert auroc(labels, scores) == pytest.approx(sum(pairs) / 16) == 0.71875  # scikit-learn's, too
    assert math.isnan(auroc(np.ones(3), scores[:3]))


def test_rates_and_their_intervals() -> None:
    counts = counted(np.array([1, 1, 1, 0, 0]), np.array([0.9, 0.5, 0.1, 0.7, 0.2]), 0.5)
    assert counts == (2, 1, 1, 1)
    assert (counts.precision.value, counts.recall.value, counts.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    # Newcombe 1998, table I, method 3: 81 of 263 is .2553 to .3662; 0 of 20 is 0 to .1611
    assert rate(81, 263)[1:] == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert rate(0, 20)[1:] == pytest.approx((0, 0.1611), abs=5e-5)


def test_calibration() -> None:
    draw = np.random.default_rng(0)
    logits = draw.normal(0, 3, 40_000)
    labels = (draw.random(40_000) < 1 / (1 + np.exp(-(0.5 * logits + 1)))).astype(float)
    assert calibration(logits, labels) == pytest.approx((0.5, 1.0), abs=0.04)
    assert calibration_error(np.array([0, 1, 1, 1.0]), np.array([0.2, 0.2, 0.9, 0.9])) == pytest.approx(0.2)


def test_long_texts_are_cut_between_sentences_and_nothing_is_lost() -> None:
    text = "One is short. Two is a longer one. " + "word " * 60 + "end."
    pieces = windows(text, 60)
    assert pieces[0].strip() == "One is short. Two is a longer one."
    assert max(map(len, pieces)) <= 60
    assert "".join(pieces) == text.strip()
    assert windows("  ", 60) == []


def make_rows(path: Path, count: int = 400) -> Path:
    kind, rude = ["kindly", "thanks", "lovely", "pleased"], ["rotten", "foul", "wretched", "vile"]
    nouns = ["soup", "garden", "women", "train", "men", "letter", "roof"]
    rows = []
    for number in range(count):
        words = (rude if number % 2 else kind) if number % 10 else kind  # a tenth of the labels is wrong
        text = f"{words[number % 4]} {nouns[number % 7]} {words[number // 4 % 4]} {f'{number:b}'.replace('1', 'i')}"
        rows.append({"t": text.replace("0", "o"), "y": number % 2, "side": nouns[number % 2]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_training_leaves_a_folder_that_scores(tmp_path: Path) -> None:
    rows, folder = make_rows(tmp_path / "rows.jsonl"), tmp_path / "out"
    trained = train_classifier([str(rows)], "t", "y", folder, name="rude", licence="CC0")
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert trained.figures["auroc"].value > 0.9
    assert sum(trained.sizes.values()) == 400
    loaded = load_classifier(str(folder))
    assert loaded.config.name == "rude"
    foul, fine = loaded.toxicity(["wretched vile soup", "lovely garden thanks"])
    assert foul > 0.5 > fine
    # the worst sentence of a long text counts, wherever it stands
    long = "Pleased, thanks, lovely garden. " * 30
    assert loaded.toxicity([long])[0] < 0.5 < loaded.toxicity([long + "Wretched vile foul rotten soup."])[0]
    assert loaded.toxicity([""])[0] == 0

    held = judge([str(rows)], "t", "y", str(folder), held_out=True, by="side")
    assert held.figures["auroc"] == trained.figures["auroc"]
    assert sum(map(sum, held.by.values())) == trained.sizes["test"]
    assert "CC0" in (folder / "README.md").read_text()
    assert str(trained.figures["precision"]) in (folder / "README.md").read_text()


def test_training_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    rows = make_rows(tmp_path / "rows.jsonl")
    for name in ("a", "b"):
        train_classifier([str(rows)], "t", "y", tmp_path / name)
    for file in ("model.safetensors", "config.json", "README.md"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_equal_texts_are_on_one_side() -> None:
    assert split_of("A  soup,\nhttp://x.y", 3) == split_of("a soup, https://other.z/7", 3)
    sides = [split_of(f"text {'i' * n}", 0) for n in range(3000)]
    assert 0.76 < sides.count("train") / 3000 < 0.84


def test_labels_that_are_not_zero_and_one_must_be_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"t": "a", "y": "hate"}\n{"t": "b", "y": "none"}\n{"t": " ", "y": "none"}\n')
    with pytest.raises(RecipeError, match=r"--toxic"):
        read_labelled([str(path)], "t", "y")
    rows = read_labelled([str(path)], "t", "y", ["hate"])
    assert (rows.texts, rows.labels.tolist(), rows.skipped) == (["a", "b"], [1.0, 0.0], 1)
    with pytest.raises(RecipeError, match="'rude'"):
        read_labelled([str(path)], "t", "y", ["rude"])
    with pytest.raises(RowError, match="no column 'z'"):
        read_labelled([str(path)], "t", "z")


def test_nothing_is_left_where_training_cannot_be(tmp_path: Path) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text('{"t": "a", "y": 0}\n{"t": "b", "y": 1}\n')
    with pytest.raises(RowError, match="more labelled rows"):
        train_classifier([str(few)], "t", "y", tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["few.jsonl"]
    with pytest.raises(StorageError, match="there already"):
        train_classifier([str(few)], "t", "y", tmp_path)


def test_a_folder_that_is_no_classifier(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="toxic-train"):
        load_classifier(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ModelError, match=r"config\.json"):
        load_classifier(str(tmp_path))
