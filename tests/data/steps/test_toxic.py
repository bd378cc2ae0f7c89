"""The step `toxic`: which part of a row is judged, and what becomes of it."""

from __future__ import annotations

from typing import Any

import pytest

from whet.data.curation.pipeline import curate
from whet.data.steps.toxic import part_of
from whet.errors import ModelError, RecipeError, RowError

RUDE, KIND = "Shut the fuck up, you bastard.", "Thank you, that is kind."
CHAT = [{"role": "user", "content": RUDE}, {"role": "assistant", "content": KIND}]
ROWS: list[dict[str, Any]] = [
    {"prompt": RUDE, "completion": KIND},
    {"prompt": KIND, "completion": RUDE, "weight": 0.5},
    {"text": RUDE},
    {"messages": CHAT},
]


def test_flag() -> None:
    done = curate(ROWS, [{"toxic": {}}])
    assert done.rows is not None
    assert [bool(row["toxic"]) for row in done.rows] == [False, True, True, False]
    assert done.rows[1]["toxic"] == ["insult"]
    assert done.rows[1]["toxicity"] == pytest.approx(1 - 0.4 * 0.4)
    assert done.rows[0] == ROWS[0] | {"toxicity": 0.0, "toxic": []}
    assert done.ledger.steps[0].reasons == {"insult": 2, "scored": 2}


def test_the_prompt_is_judged_where_that_is_asked() -> None:
    for part, expected in (("prompt", [1, 0, 1, 1]), ("all", [1, 1, 1, 1])):
        rows = curate(ROWS, [{"toxic": {"part": part}}]).rows or []
        assert [int(bool(row["toxic"])) for row in rows] == expected


def test_drop_and_weight() -> None:
    done = curate(ROWS, [{"toxic": {"action": "drop"}}])
    assert done.rows == [ROWS[0], ROWS[3]]
    assert done.ledger.steps[0].dropped == 2
    rows = curate(ROWS, [{"toxic": {"action": "weight", "weight": 0.2}}]).rows or []
    assert [row.get("weight") for row in rows] == [None, 0.1, 0.2, None]
    kept = curate(ROWS, [{"toxic": {"action": "drop", "above": 0.9}}]).rows
    assert kept == ROWS
    with pytest.raises(RowError, match="drops every row"):
        curate([{"text": RUDE}], [{"toxic": {"action": "drop"}}])


def test_a_preference_row_is_judged_by_what_it_teaches() -> None:
    transcript = "\n\nHuman: first\n\nAssistant: one\n\nHuman: second\n\nAssistant: two"
    row = {"chosen": transcript, "rejected": "\n\nHuman: first\n\nAssistant: no"}
    assert part_of(row, "answer") == " two"
    assert part_of(row, "prompt") == "\n\nHuman: first\n\nAssistant: one\n\nHuman: second".strip()
    assert part_of(row, "answer", ("rejected",)) == " no"
    assert part_of({"a": "x", "b": "y"}, "answer", ("b",)) == "y"
    assert part_of({"a": "x", "b": "y"}, "prompt", ("b",)) == "y"


def test_wrong_settings() -> None:
    with pytest.raises(RecipeError, match="above"):
        curate(ROWS, [{"toxic": {"above": 0}}])
    with pytest.raises(ModelError, match="no classifier"):
        curate(ROWS, [{"toxic": {"scorer": "no/such/folder"}}])
