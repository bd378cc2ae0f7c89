"""The step `groups`: columns, and the report in the ledger, counted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from whet.data.curation.pipeline import curate
from whet.errors import RecipeError

ROWS: list[dict[str, Any]] = [
    {"text": "The kind women left. Women are brave."},
    {"text": "He is a lazy clerk."},
    {"text": "Rain fell."},
    {"text": "She greeted old men.", "toxicity": 0.5},
]


def test_columns_and_counts() -> None:
    done = curate(ROWS, [{"groups": {"axis": "gender"}}])
    assert done.rows is not None
    assert [row.get("groups") for row in done.rows] == [
        ["gender/women"], ["gender/men"], None, ["age/old people", "gender/men", "gender/women"],
    ]  # fmt: skip
    assert [row["group"] for row in done.rows] == ["women", "men", "none", "several"]
    notes = done.ledger.steps[0].notes
    assert (notes["rows"], notes["rows that name a group"]) == (4, 3)
    assert notes["gender"] == "women 2, men 2"
    women, men = notes["report"]["gender"]["women"], notes["report"]["gender"]["men"]
    assert (women["rows"], women["mentions"], women["terms"]) == (2, 3, {"women": 2, "she": 1})
    assert women["words"] == {"kind": 1, "brave": 1}
    assert women["tone"] == [1.0, 1.0, 1.0]
    assert women["toxicity"][0] == 0.25  # the lexicon's 0, and what the row says
    assert men["words"] == {"lazy": 1, "a clerk": 1, "old": 1}
    assert men["tone"][0] == pytest.approx(-1 / 3, abs=1e-3)


def test_without_pronouns_and_axis() -> None:
    rows = curate(ROWS, [{"groups": {"pronouns": False}}]).rows or []
    assert [row.get("groups") for row in rows] == [["gender/women"], None, None, ["age/old people", "gender/men"]]
    assert all("group" not in row for row in rows)
    assert rows[2] == ROWS[2]


def test_words_that_set_a_group_apart() -> None:
    rows = [{"text": "The shy women met the tall men."}] * 60 + [{"text": "Tall women, shy men."}] * 5
    apart = curate(rows, [{"groups": {}}]).ledger.steps[0].notes["report"]["gender"]
    assert [word for word, *_ in apart["women"]["apart"]] == ["shy"]
    assert [word for word, *_ in apart["men"]["apart"]] == ["tall"]
    _, times, odds, low, high = apart["women"]["apart"][0]
    assert times == 60
    assert 0 < low < odds < high


def test_an_axis_that_is_none() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'gender'"):
        curate(ROWS, [{"groups": {"axis": "gendr"}}])
