"""Texts of rows: what the turns say, or the columns that are named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from whet.data import read
from whet.data.texts import texts
from whet.errors import RowError
from whet.recipe import DataPart


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., str]:
    def write(*rows: dict[str, Any], name: str = "rows.jsonl") -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write


def said(path: str, *columns: str) -> list[str]:
    return [text for _, text in texts([path], columns)]


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"text": "one", "id": "x"}, ["one"]),
        ({"prompt": "ask", "completion": "answer", "source": "web"}, ["ask", "answer"]),
        ({"prompt": "ask", "chosen": "good", "rejected": "bad"}, ["ask", "good", "bad"]),
        ({"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]}, ["u", "a"]),
    ],
)
def test_rows_of_a_known_shape_give_what_is_said(
    file: Callable[..., str], row: dict[str, Any], wanted: list[str]
) -> None:
    assert said(file(row)) == wanted


def test_columns_go_into_objects_and_lists(file: Callable[..., str]) -> None:
    row = {"id": "7", "q": ["a", "b"], "table": {"rows": [["c", 3], ["d", " "]], "uid": "no"}, "notes": [{"t": "e"}]}
    assert said(file(row), "q", "table.rows", "notes.t") == ["a", "b", "c", "d", "e"]


def test_a_row_without_text_says_which_columns_there_are(file: Callable[..., str]) -> None:
    with pytest.raises(RowError, match=r"--columns question,answer"):
        said(file({"question": "q", "answer": "a", "year": 3}))
    with pytest.raises(RowError, match=r"rows.jsonl:1: none of the columns body here"):
        said(file({"question": "q"}), "body")


def test_a_sample_is_the_one_that_training_reads(file: Callable[..., str]) -> None:
    path = file(*({"text": f"row {number}"} for number in range(50)))
    sampled = [text for _, text in texts([f"{path}#7"], seed=3)]
    assert sampled == [example.text for example in read([DataPart(path=f"{path}#7")], seed=3)]
