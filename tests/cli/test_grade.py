"""`whet grade` as a user gives it: figures, files, and bad input."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from whet.cli import main

GRADER = """
type: multi
calculate_output: 0.75 * right + 0.25 * short
graders:
  right: {type: number, reference: "{{item.answer}}"}
  short: {type: length, max: 3, slope: 0.5}
"""
ROWS: list[dict[str, Any]] = [
    {"prompt": "2+2", "answer": 4, "completion": "It is 4"},
    {"prompt": "2+3", "answer": 5, "completion": "I think 5"},
    {"prompt": "2+4", "answer": 6, "completion": "I think it is 5"},
    {"prompt": "2+5", "answer": "none", "completion": "7"},
]


@pytest.fixture
def whet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run a command in a folder with rows and a grader; (exit code, what it printed, what it said is wrong)."""
    monkeypatch.chdir(tmp_path)
    Path("grader.yaml").write_text(GRADER)
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["whet", "grade", *words])
        capsys.readouterr()
        try:
            main()
            code: Any = 0
        except SystemExit as ended:
            code = ended.code
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        return int(code or 0), told.out, told.err

    return call


def test_figures_and_files(whet: Callable[..., Any]) -> None:
    code, printed, _ = whet("grader.yaml", "rows.jsonl")
    assert code == 0
    assert "1 of 4" in printed
    assert "! multi: right, rows.jsonl:4: ValueError: no number in the reference" in printed
    kept = json.loads(Path("grades/grader-rows/grades.json").read_text())
    assert kept["figures"]["multi"] == {
        "mean": pytest.approx((1 + 1 + 0) / 3), "sd": pytest.approx(np.std([1, 1, 0])),
        "min": 0, "25 %": 0.5, "median": 1, "75 %": 1, "max": 1, "faults": 1,
    }  # fmt: skip
    assert kept["figures"]["short"]["mean"] == 0.75  # five words are two too many
    assert kept["grader"]["graders"]["short"]["slope"] == 0.5
    table = parquet.read_table("grades/grader-rows/rows.parquet").to_pydict()
    assert table["score.right"][:3] == [1, 1, 0]
    assert np.isnan(table["score"][3])
    assert table["fault"][:3] == [None] * 3
    assert table["place"] == [f"rows.jsonl:{n}" for n in (1, 2, 3, 4)]
    assert whet("grader.yaml", "rows.jsonl#2", "--quiet")[0] == 0  # in place of what was there
    assert json.loads(Path("grades/grader-rows/grades.json").read_text())["rows"] == 2


def test_another_column_of_answers(whet: Callable[..., Any]) -> None:
    code, _, _ = whet("grader.yaml", "rows.jsonl", "--answers", "prompt", "--output", "mine")
    assert code == 0
    assert json.loads(Path("mine/grades.json").read_text())["figures"]["right"]["mean"] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.yaml", "rows.jsonl"], "none.yaml: no such file"),
        (["grader.yaml", "none.jsonl"], "none.jsonl"),
        (["grader.yaml", "rows.jsonl", "--answers", "answer"], "rows.jsonl:1: an answer that is no text in 'answer'"),
        (["grader.yaml", "rows.jsonl", "--answers", "output"], "this row has prompt, answer, completion"),
        (["other.yaml", "rows.jsonl"], "no row has a column 'anser'. Did you mean 'answer'"),
        (["model.yaml", "rows.jsonl"], "rm: neither a folder here"),
        (["grader.yaml", "rows.jsonl", "--output", "taken"], "something else is there"),
    ],
)
def test_bad_input(whet: Callable[..., Any], words: list[str], said: str) -> None:
    Path("other.yaml").write_text("{type: number, reference: '{{item.anser}}'}")
    Path("model.yaml").write_text("{type: reward_model, model: rm}")
    Path("taken").mkdir()
    Path("taken/file").write_text("mine")
    code, _, told = whet(*words)
    assert code == 2
    assert said in " ".join(told.split())
    assert not Path("grades").exists()
    assert [path.name for path in Path("taken").iterdir()] == ["file"]
