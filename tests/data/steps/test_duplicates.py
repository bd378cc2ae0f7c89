"""The step `duplicates` end to end: what goes, for whom, and what it says."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from whet.data.curation.pipeline import Curated, curate
from whet.errors import RecipeError, RowError, WhetError

WORDS = [f"word{number}" for number in range(40)]
Row = dict[str, Any]


def deduplicated(rows: Any, **settings: Any) -> Curated:
    return curate(rows, [{"duplicates": settings}])


def why(rows: list[Row], tmp_path: Path, **settings: Any) -> list[tuple[str, str, str]]:
    """(place, reason, detail) of what was dropped."""
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    curate(str(source), [{"duplicates": settings}], tmp_path / "out.jsonl")
    rejects = [json.loads(line) for line in (tmp_path / "out.rejects.jsonl").open()]
    return [(r["place"].split(":")[-1], r["reason"], r["detail"].replace(f"{source}:", "")) for r in rejects]


def text(*changes: tuple[int, str], size: int = 40) -> str:
    words = WORDS[:size]
    for place, word in changes:
        words[place] = word
    return " ".join(words)


def test_exact_and_near_copies_name_the_row_that_stays(tmp_path: Path) -> None:
    # 40 words have 36 5-grams; another last word takes one of them: 35 / 37 = 0.946
    rows = [{"text": text()}, {"text": text((39, "other"))}, {"text": text().upper() + " \n"}, {"text": "apart " * 9}]
    assert why(rows, tmp_path, keep="first") == [
        ("2", "near copy", "1, Jaccard 0.946"), ("3", "exact copy", "1, Jaccard 1.000"),
    ]  # fmt: skip


@pytest.mark.parametrize(("keep", "stays"), [("first", 0), ("longest", 1), ("score", 2)])
def test_which_one_stays(keep: str, stays: int) -> None:
    rows = [
        {"text": text(), "score": 1}, {"text": text((39, "a-much-longer-word")), "score": 0.5},
        {"text": text((39, "w")), "score": 3}, {"text": "entirely different", "score": 0},
    ]  # fmt: skip
    assert deduplicated(rows, keep=keep).rows == [rows[stays], rows[3]]


def test_a_column_to_keep_by_must_be_a_number() -> None:
    with pytest.raises(RowError, match=r"row 2: `score` is None"):
        deduplicated([{"text": "a", "score": 1}, {"text": "b"}], keep="score")


def test_of_a_chain_nothing_goes_for_a_row_that_it_is_not_near() -> None:
    # Each differs from the next in one word in the middle, which takes 5 of 36: 31 / 41 = 0.756; two: 26 / 46 = 0.565
    a, b, c = text(), text((10, "x")), text((10, "x"), (30, "y"))
    assert deduplicated([{"text": a}, {"text": b}, {"text": c}], threshold=0.7, keep="first").rows == [
        {"text": a}, {"text": c},
    ]  # fmt: skip
    assert deduplicated([{"text": b}, {"text": a}, {"text": c}], threshold=0.7, keep="first").rows == [{"text": b}]


def test_short_rows_are_compared_exactly_only_and_empty_ones_never() -> None:
    rows = [{"text": t} for t in ("3 + 4", "3 * 4", "3 +  4", "", "  ", "", "...", "…")]
    assert [row["text"] for row in deduplicated(rows, keep="first").rows or []] == [
        "3 + 4",
        "3 * 4",
        "",
        "  ",
        "",
        "...",
        "…",
    ]
    notes = deduplicated(rows).ledger.steps[0].notes
    assert notes["without text"] == 3
    assert notes["compared exactly only"] == 5


def test_which_columns_are_compared() -> None:
    rows = [{"prompt": "Say a.", "completion": "a"}, {"prompt": "Say a.", "completion": "b"}]
    assert deduplicated(rows).rows == rows
    assert deduplicated(rows, columns=["prompt"], keep="first").rows == rows[:1]
    with pytest.raises(RowError, match="no row has text in question"):
        deduplicated(rows, columns=["question"])


def test_rows_near_held_out_ones_go_and_the_held_out_file_is_as_it_was(tmp_path: Path) -> None:
    held = tmp_path / "held.csv"
    held.write_text(f"text\n{text((39, 'other'))}\nshort one\n")
    before = held.read_bytes()
    rows = [{"text": text()}, {"text": text() + " and far longer"}, {"text": "Short  ONE"}, {"text": "apart " * 9}]
    dropped = why(rows, tmp_path, against=[str(held)])
    near, copy = "near copy of a held-out row", "exact copy of a held-out row"
    assert dropped == [
        ("1", near, f"{held}:row 1, Jaccard 0.946"), ("2", near, f"{held}:row 1, Jaccard 0.875"),
        ("3", copy, f"{held}:row 2, Jaccard 1.000"),
    ]  # fmt: skip
    assert held.read_bytes() == before
    ledger = json.loads((tmp_path / "out.ledger.json").read_text())
    assert ledger["steps"][0]["notes"]["against"][0]["bytes"] == len(before)


def test_a_held_out_file_that_is_not_there_is_named_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(RowError, match="no such file"):
        deduplicated([{"text": "a"}], against=[str(tmp_path / "none.jsonl")])


def random_rows(seed: int, count: int = 120) -> list[Row]:
    """Rows of about 60 words in families, some of them far apart."""
    rng = np.random.default_rng(seed)
    rows = []
    while len(rows) < count:
        base = rng.integers(0, 400, rng.integers(20, 80))
        for _ in range(rng.integers(1, 5)):
            copy = base.copy()
            where = rng.choice(len(copy), rng.integers(0, 4), replace=False)
            copy[where] = rng.integers(0, 400, len(where))
            rows.append({"text": " ".join(map(str, copy)), "id": len(rows)})
    return [rows[number] for number in rng.permutation(count)]


@pytest.mark.parametrize("seed", range(4))
def test_what_stays_is_what_comparing_everything_keeps(seed: int) -> None:
    rows = random_rows(seed)
    sets = []
    for row in rows:
        words = row["text"].split()
        sets.append(set(zip(*(words[k:] for k in range(5)), strict=False)))
    order = sorted(range(len(rows)), key=lambda number: (-len(rows[number]["text"]), number))
    stays: list[int] = []
    for number in order:
        if all(len(sets[number] & sets[s]) < 0.8 * len(sets[number] | sets[s]) for s in stays):
            stays.append(number)
    found = {row["id"] for row in deduplicated(rows).rows or []}
    expected = {rows[number]["id"] for number in stays}
    assert len(expected) < len(rows)
    assert len(found ^ expected) <= 2  # a pair at the threshold is missed once in a hundred times


def embed(texts: list[str]) -> np.ndarray:
    """Direction by the first letter, a little by length."""
    angle = np.array([(ord(text[0].lower()) - 97) / 4 + len(text) / 1000 for text in texts])
    return 3 * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def test_by_meaning_every_pair_that_stays_is_apart_and_whatever_goes_is_near_what_stays() -> None:
    rng = np.random.default_rng(0)
    rows = [{"text": "".join(rng.choice(list("abcdefghij"), 12))} for _ in range(60)]
    found = curate(rows, [{"duplicates": {"meaning": 0.999}}], embed=embed)
    stays = [row["text"] for row in found.rows or []]
    assert 1 < len(stays) < len(rows)
    vectors = embed(stays) / 3
    assert all(vectors[a] @ vectors[b] < 0.999 for a, b in combinations(range(len(stays)), 2))
    gone = embed([row["text"] for row in rows if row["text"] not in stays]) / 3
    assert (gone @ vectors.T).max(axis=1).min() >= 0.999
    assert found.ledger.steps[0].reasons["same meaning"] == len(rows) - len(stays)


def test_a_near_copy_of_what_goes_by_meaning_stays_if_it_means_something_else() -> None:
    copy = "zebra " + text()[6:]
    rows = [{"text": "w" * 400}, {"text": text()}, {"text": copy}]  # the copy is near row 2, whose direction is row 1's
    found = curate(rows, [{"duplicates": {"meaning": 0.9, "threshold": 0.7, "keep": "first"}}], embed=embed)
    assert [row["text"] for row in found.rows or []] == ["w" * 400, copy]


def test_without_a_service_meaning_says_how_to_lend_one() -> None:
    with pytest.raises(RecipeError, match=r"no service `embed` is lent\n  -> give --embed MODEL; from Python, embed="):
        deduplicated([{"text": "a"}], meaning=0.9)
    with pytest.raises(WhetError, match=r"`embed` gave an array of \(1,\) for 2 texts"):
        curate([{"text": "a"}, {"text": "b"}], [{"duplicates": {"meaning": 0.9}}], embed=lambda texts: [1.0])
