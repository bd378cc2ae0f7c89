"""`whet tokens`: from files to folders, tables and colours, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from whet.cli.tokens import app
from whet.cli.tokens_page import coloured
from whet.errors import RecipeError, RowError, RunError
from whet.rows import Row


@pytest.fixture
def command() -> Callable[..., Any]:
    return lambda *words: CliRunner().invoke(app, list(map(str, words)))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "law.jsonl"
    lines = [
        f"the indemnitor shall indemnify tenant {n} under annex {n % 5}, [bold]and[/bold] no more" for n in range(40)
    ]
    path.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    return path


def test_train_writes_a_tokenizer_and_measures_it_on_texts_kept_aside(
    command: Callable[..., Any], data: Path, tmp_path: Path, model_folder: Path
) -> None:
    done = command(
        "train", data, "-o", tmp_path / "t", "--vocab-size", 300, "--validation", 0.3, "--beside", model_folder
    )
    assert done.exit_code == 0, done.output
    assert "300 entries, 3 of them special" in done.output
    assert "bytes a token" in done.output
    assert str(model_folder) in done.output
    assert (tmp_path / "t" / "tokenizer.json").is_file()


def test_report_prints_json_and_writes_a_page(
    command: Callable[..., Any], data: Path, tmp_path: Path, model_folder: Path
) -> None:
    command("train", data, "-o", tmp_path / "t", "--vocab-size", 300)
    done = command("report", model_folder, tmp_path / "t", data, "--json", "--html", tmp_path / "r.html")
    first, second = json.loads(done.stdout)
    assert (first["texts"], first["changed"], second["changed"]) == (40, 0, 0)
    assert second["bytes_per_token"] > first["bytes_per_token"]
    page = (tmp_path / "r.html").read_text()
    assert "bytes a token" in page
    assert "<script" not in page
    table = command("report", model_folder, data).output
    assert "indemnitor (40)" in table.replace("·", "")


def test_extend_says_what_it_did(command: Callable[..., Any], data: Path, tmp_path: Path, model_folder: Path) -> None:
    (tmp_path / "terms").write_text("indemnitor\nno more\n")
    done = command("extend", model_folder, data, "-o", tmp_path / "x", "--terms", tmp_path / "terms")
    assert done.exit_code == 0, done.output
    assert "1 new entries (words), such as ' indemnitor'" in done.output
    assert "left out: 'no more': several words" in done.output
    assert isinstance(command("extend", model_folder, data, "-o", tmp_path / "x").exception, RunError)


def test_show_takes_a_text_or_a_row(command: Callable[..., Any], model_folder: Path, rows: Path) -> None:
    assert "3 tokens" in command("show", model_folder, "日").output
    shown = command("show", model_folder, rows, "--row", 1, "--no-ids").output
    assert "rows.jsonl:1" in shown
    assert "‹<|user|>›" in shown
    assert "«" in shown
    assert isinstance(command("show", model_folder, rows, "--row", 99).exception, RowError)


def test_tokens_alternate_and_what_is_learnt_is_set_off(tiny_tokenizer: Callable[[], Any]) -> None:
    tokenizer = tiny_tokenizer()
    ids = np.array(tokenizer("<s>a b\n")["input_ids"], dtype=np.int32)
    row = Row(ids, np.arange(len(ids)) == len(ids) - 1)
    plain = coloured(tokenizer, row, colour=False, ids=False).plain
    assert plain.startswith("‹<s>›|a")
    assert plain.endswith("«↵\n»")
    spans = coloured(tokenizer, row, colour=True, ids=False).spans
    assert "bold red" in str(spans[0].style)
    assert spans[0].style != spans[1].style
    assert "underline" in str(spans[-1].style)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["report", "one"], RecipeError),
        (["train", "DATA", "-o", "NEW", "--vocab-size", "100000"], RecipeError),
        (["train", "DATA", "-o", "NEW", "--chat-template", "no-file"], RecipeError),
        (["extend", "MODEL", "DATA", "-o", "NEW", "--terms", "no-file"], RowError),
    ],
)
def test_bad_settings_are_refused_and_leave_nothing(
    command: Callable[..., Any], data: Path, tmp_path: Path, model_folder: Path, words: list[str], error: type
) -> None:
    given = {"DATA": str(data), "NEW": str(tmp_path / "new"), "MODEL": str(model_folder)}
    before = sorted(tmp_path.iterdir())
    done = command(*[given.get(word, word) for word in words])
    assert isinstance(done.exception, error)
    assert sorted(tmp_path.iterdir()) == before
