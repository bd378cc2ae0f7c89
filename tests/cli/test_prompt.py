"""`whet prompt` from the command line: a run, its table, and words that are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from whet.cli import app
from whet.errors import RecipeError
from whet.models.in_context.prompt import read_prompt


@pytest.fixture
def data(tmp_path: Path) -> str:
    rows = [{"text": f"the {noun} {n}", "kind": kind} for n in range(8) for noun, kind in (("cat", "a"), ("mat", "b"))]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / "rows.jsonl")


def whet(*words: str) -> str:
    done = CliRunner().invoke(app, ["prompt", *words, "--quiet"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_candidates_are_told_and_the_best_is_a_run(model_folder: Path, data: str, tmp_path: Path) -> None:
    (tmp_path / "instructions.txt").write_text("say a or b\n\nwhich?\n")
    output = whet(
        str(model_folder), data, "columns.prompt=text", "columns.completion=kind", "--shots", "0,2", "--draws", "2",
        "--instructions", str(tmp_path / "instructions.txt"), "--calibrate", "--test", f"{data}#4",
        "--output", str(tmp_path / "run"),
    )  # fmt: skip
    table, _, rest = output.partition("On test rows")
    assert len(table.strip().splitlines()) == 2 + 6  # two instructions, each without, and with two draws
    assert "uncalibrated" in table
    assert "zero-shot" in rest
    assert output.splitlines()[-1] == f"run: {tmp_path / 'run'}"
    part = read_prompt(tmp_path / "run" / "prompt").part
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert part.instruction == summary["candidates"][0]["instruction"]
    assert part.instruction in ("say a or b", "which?")
    assert summary["scored_rows"] == 6 * summary["validation_rows"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Candidates on validation rows" in page
    assert part.instruction in page


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--shots", "two"], "no numbers"),
        (["--choose", "nearer"], "'nearest'"),
        (["--order", "nearest-last"], "hangs on the question"),
        (["--instructions", "nowhere.txt"], "cannot be read"),
    ],
)
def test_wrong_words_are_told(model_folder: Path, data: str, tmp_path: Path, words: list[str], match: str) -> None:
    with pytest.raises(RecipeError, match=match):
        whet(str(model_folder), data, "columns.prompt=text", "columns.completion=kind", *words)
