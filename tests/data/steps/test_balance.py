"""Groups of rows in proportion: sizes by hand, clusters against dense and slow versions."""

from __future__ import annotations

import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from whet.data.curation.pipeline import curate
from whet.data.steps import clusters as kmeans
from whet.data.steps.balance import BalanceSettings, cap_of_share, effective_groups, plot, wanted_sizes
from whet.data.steps.ngrams import BUCKETS, ngrams
from whet.errors import RecipeError, RowError

SIZES = np.array([900, 90, 10])


def rows_of(**sizes: int) -> list[dict[str, Any]]:
    rows = [{"text": f"{label} {n}", "label": label} for label, size in sizes.items() for n in range(size)]
    random.Random(0).shuffle(rows)
    return rows


def counts(rows: list[dict[str, Any]] | None, key: str = "label") -> dict[str, int]:
    return dict(Counter(row[key] for row in rows or []))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"cap": 100}, [100, 90, 10]),
        ({"cap": 0.6}, [150, 90, 10]),  # 150 = 0.6 * 250
        ({"upsample": True, "max_copies": 100}, [900, 900, 900]),
        ({"upsample": True}, [900, 900, 100]),
        ({"upsample": True, "cap": 50}, [50, 50, 50]),
        # sqrt: 30, 9.4868, 3.1623 of 42.6491; of 1000 rows 703.41, 222.44, 74.15
        ({"temperature": 0.5, "upsample": True}, [703.41, 222.44, 74.15]),
        ({"temperature": 0.5}, [703.41, 90, 10]),
        ({"temperature": 1}, [900, 90, 10]),
        ({"temperature": 0, "upsample": True, "max_copies": 50}, [1000 / 3] * 3),
        ({"temperature": 0, "action": "weight", "max_copies": 50}, [1000 / 3] * 3),
    ],
)
def test_sizes_by_hand(settings: dict[str, Any], expected: list[float]) -> None:
    assert wanted_sizes(SIZES, BalanceSettings(by="label", **settings)) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("seed", range(8))
def test_the_cap_of_a_share_is_the_largest_one(seed: int) -> None:
    draw = np.random.default_rng(seed)
    sizes = draw.integers(1, 400, int(draw.integers(3, 9))).astype(float)
    share = float(draw.uniform(1 / len(sizes) + 0.01, 0.9))
    grid = np.arange(0, 401, 0.01)
    fits = [cap for cap in grid if cap <= share * np.minimum(sizes, cap).sum() + 1e-9]
    found = cap_of_share(sizes, share)
    assert min(found, sizes.max()) == pytest.approx(min(max(fits), sizes.max()), abs=0.011)


def test_a_share_that_so_few_groups_cannot_keep() -> None:
    with pytest.raises(RowError, match=r"of 3 groups the largest has at least 33.3%"):
        cap_of_share(SIZES.astype(float), 0.3)


def test_a_cap_draws_rows_and_says_what_was_left_out() -> None:
    done = curate(rows_of(a=30, b=12, c=5), [{"balance": {"by": "label", "cap": 10}}])
    assert counts(done.rows) == {"a": 10, "b": 10, "c": 5}
    entry = done.ledger.steps[0]
    assert entry.reasons == {"more of its group than wanted": 22}
    assert entry.notes["rows before"] == {"a": 30, "b": 12, "c": 5}
    assert entry.notes["rows after"] == {"a": 10, "b": 10, "c": 5}
    assert done.rows == curate(rows_of(a=30, b=12, c=5), [{"balance": {"by": "label", "cap": 10}}]).rows


def test_upsampling_copies_every_row_alike() -> None:
    done = curate(rows_of(a=30, b=12), [{"balance": {"by": "label", "upsample": True}}])
    assert counts(done.rows) == {"a": 30, "b": 30}
    times = Counter(row["text"] for row in done.rows or [] if row["label"] == "b")
    assert sorted(times.values()) == [2] * 6 + [3] * 6
    assert done.ledger.steps[0].added == 18


def test_weights_bring_groups_alike_and_multiply_what_is_there() -> None:
    rows = rows_of(a=30, b=10)
    first = next(row for row in rows if row["label"] == "b")
    first["weight"] = 0.5
    done = curate(rows, [{"balance": {"by": "label", "temperature": 0, "action": "weight"}}])
    assert done.rows is not None
    assert len(done.rows) == 40
    weights = {row["text"]: row["weight"] for row in done.rows}
    assert weights.pop(first["text"]) == pytest.approx(1.0)  # 0.5 * 20 / 10
    assert {round(weight, 4) for text, weight in weights.items() if text[0] == "a"} == {round(20 / 30, 4)}
    assert {weight for text, weight in weights.items() if text[0] == "b"} == {2.0}


def test_held_out_rows_stay_as_they_are() -> None:
    rows = rows_of(a=20, b=4)
    for row in rows[:8]:
        row["split"] = "test"
    done = curate(rows, [{"balance": {"by": "label", "cap": 2}}])
    kept = done.rows or []
    assert [row for row in kept if row.get("split")] == rows[:8]
    assert max(counts([row for row in kept if not row.get("split")]).values()) == 2
    weighed = curate(rows, [{"balance": {"by": "label", "cap": 2, "action": "weight"}}])
    assert [row for row in weighed.rows or [] if row.get("split")] == rows[:8]


def test_nested_columns_missing_values_and_numbers_are_groups() -> None:
    rows = [{"text": "x", "meta": {"source": value}} for value in (1, 1, None, True, "s", "s")] + [
        {"text": "x", "meta": {}}
    ]
    done = curate(rows, [{"balance": {"by": "meta.source", "cap": 1}}])
    assert done.ledger.steps[0].notes["rows before"] == {"1": 2, "(none)": 2, "s": 2, "True": 1}
    assert len(done.rows or []) == 4


def test_by_file(tmp_path: Path) -> None:
    for name, size in (("a", 5), ("b", 2)):
        (tmp_path / f"{name}.jsonl").write_text("".join(f'{{"text": "{name}{n}"}}\n' for n in range(size)))
    done = curate([str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")], [{"balance": {"by": "file", "cap": 2}}])
    assert Counter(row["text"][0] for row in done.rows or []) == {"a": 2, "b": 2}


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"by": "label"}, RecipeError, "what should change"),
        ({"by": "label", "cap": 2.5}, RecipeError, "share below 1"),
        ({"by": "labl", "cap": 1}, RowError, "no column `labl`.*label"),
        ({"by": "tags", "cap": 1}, RowError, "`tags` is a list"),
    ],
)
def test_what_cannot_be_balanced(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        curate([{"text": "x", "label": "a", "tags": ["t"]}], [{"balance": settings}])


def test_effective_groups_by_hand() -> None:
    assert effective_groups(np.array([5, 5, 0])) == pytest.approx(2)
    assert effective_groups(np.array([3, 1])) == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))


# Plots ---------------------------------------------------------------------------------------------------------------


def test_plots_stand_beside_the_output(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    steps = [{"balance": {"by": "label", "cap": 9}}, {"balance": {"by": "label", "cap": 3}}]
    done = curate(rows_of(alpha=12, beta=5), steps, out)
    beside = [tmp_path / "out.balance.svg", tmp_path / "out.balance-2.svg"]
    assert all(str(path) in done.files for path in beside)
    assert [path.read_bytes() for path in beside] == list(done.plots.values())
    again = plot({"alpha": 12, "beta": 5}, {"alpha": 9, "beta": 5}, "label")
    assert beside[0].read_bytes() == again
    assert b"<svg" in again
    assert b"alpha" in again  # a comment of matplotlib's names each text


def test_nothing_is_left_of_a_run_that_fails(tmp_path: Path) -> None:
    steps = [{"balance": {"by": "label", "cap": 9}}, {"balance": {"by": "nothing", "cap": 3}}]
    with pytest.raises(RowError):
        curate(rows_of(alpha=12), steps, tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == []


# Clusters ------------------------------------------------------------------------------------------------------------

TOPICS = {
    "sea": ["wave", "ship", "harbour", "sail", "tide", "crew", "anchor", "storm"],
    "kitchen": ["flour", "oven", "butter", "dough", "spoon", "pan", "salt", "taste"],
    "court": ["judge", "clause", "appeal", "party", "lawyer", "verdict", "law", "court"],
}


def topic_rows(count: int = 40) -> list[dict[str, Any]]:
    draw = random.Random(1)
    rows = [
        {"text": "the " + " ".join(draw.choices(words, k=14)), "topic": topic}
        for topic, words in TOPICS.items()
        for _ in range(count)
    ]
    draw.shuffle(rows)
    return rows


def dense(bags: kmeans.Bags) -> np.ndarray:
    out = np.zeros((bags.size, BUCKETS))
    np.add.at(out, (bags.rows, bags.buckets), bags.values)
    return out


def test_tf_idf_equals_a_slow_version() -> None:
    texts = ["a b a c", "", "b b", "c d e f f"]
    counts_ = kmeans.word_counts(texts)
    documents = np.bincount(counts_.buckets, minlength=BUCKETS)
    idf = np.log((1 + 4) / (1 + documents)) + 1
    found = dense(kmeans.weighted(counts_, idf))
    for number, text in enumerate(texts):
        expected = np.zeros(BUCKETS)
        for bucket, times in Counter(ngrams([text], bigrams=False)[0].tolist()).items():
            with_it = sum(bucket in ngrams([other], bigrams=False)[0] for other in texts)
            expected[bucket] = (1 + math.log(times)) * (math.log(5 / (1 + with_it)) + 1)
        expected /= np.linalg.norm(expected) or 1
        assert found[number] == pytest.approx(expected)


def test_nearest_and_means_equal_dense_ones() -> None:
    texts = [row["text"] for row in topic_rows(10)]
    bags = kmeans.weighted(kmeans.word_counts(texts), np.ones(BUCKETS))
    full = dense(bags)
    centres = full[:4]
    labels, cosines = kmeans.nearest(bags, centres)
    assert np.array_equal(labels, (full @ centres.T).argmax(axis=1))
    assert cosines == pytest.approx((full @ centres.T).max(axis=1))
    means = np.stack([full[labels == k].sum(axis=0) for k in range(4)])
    assert kmeans.means(bags, labels, 4) == pytest.approx(means / np.linalg.norm(means, axis=1, keepdims=True))


def test_clusters_are_the_topics_and_are_found_again() -> None:
    settings = {"by": "clusters", "clusters": 3, "cap": 10}
    done = curate(topic_rows(), [{"balance": settings}])
    assert counts(done.rows, "topic") == dict.fromkeys(TOPICS, 10)
    assert done.rows == curate(topic_rows(), [{"balance": settings}]).rows
    named = done.ledger.steps[0].notes["rows before"]
    assert list(named.values()) == [40, 40, 40]
    for name in named:
        words = name.split(": ")[1].split(", ")
        assert any(set(words) <= set(topic) for topic in TOPICS.values()), name


def test_rows_fewer_or_more_alike_than_clusters() -> None:
    found = kmeans.find_clusters(["a b", "a b", "c"], 5, np.random.default_rng(0))
    assert len(found.centres) == 2
    assert found.of(["c", "b a", ""]).tolist()[:2] == [found.of(["c"])[0], found.of(["a b"])[0]]
    assert found.of(["c"])[0] != found.of(["a b"])[0]


def test_the_ledger_can_be_read_as_json(tmp_path: Path) -> None:
    curate(topic_rows(5), [{"balance": {"by": "clusters", "clusters": 3, "cap": 0.5}}], tmp_path / "out.jsonl")
    assert orjson.loads((tmp_path / "out.ledger.json").read_bytes())["steps"][0]["notes"]["groups"] == 3
