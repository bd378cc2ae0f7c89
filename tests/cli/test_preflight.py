"""`whet preflight`: the ledger and the rows on the screen."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from whet.cli.preflight import preflight, row_text, show_rows
from whet.errors import PreflightError, RowError
from whet.rows import Row


@pytest.fixture
def command() -> Callable[..., Any]:
    app = typer.Typer()
    app.command()(preflight)
    return lambda *words: CliRunner().invoke(app, list(words))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four conversations, the third of which has «, and [markup] that is none."""
    path = tmp_path / "a.jsonl"
    answers = ["sat", "lay", "[bold]on the «mat»", "went home"]
    talks = [[{"role": "user", "content": "the cat"}, {"role": "assistant", "content": answer}] for answer in answers]
    path.write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks))
    return path


def test_it_prints_the_ledger_and_rows_with_what_is_learnt(
    command: Callable[..., Any], model_folder: Path, data: Path
) -> None:
    words = [f"model={model_folder}", f"data={data}", "validation=0"]
    out = command(*words, "--rows", "2").output
    assert ["read", "4", "0"] in [line.split() for line in out.splitlines()]
    assert "<s><|user|>the cat<|end|><|assistant|>«sat<|end|>»\n" in out
    assert "«lay<|end|>»" in out
    assert "row 3" not in out
    out = command(*words, "--row", "3").output
    assert "<|assistant|>«[bold]on the «mat»<|end|>»\n" in out
    assert out.count("tokens, ") == 1
    assert not list(data.parent.glob("runs"))


def test_it_fails_as_training_would_after_showing_why(
    command: Callable[..., Any], model_folder: Path, data: Path
) -> None:
    words = [f"model={model_folder}", f"data={data}", "validation=0"]
    result = command(*words, "train.max_length=9")
    assert isinstance(result.exception, PreflightError)
    assert "training, cut: " in result.output
    assert "learnt: " in result.output
    result = command(*words, "--row", "5")
    assert isinstance(result.exception, RowError)
    assert "give 1 to 4" in str(result.exception)


def test_learnt_tokens_are_coloured_where_there_is_colour(tiny_tokenizer: Callable[[], Any]) -> None:
    tokenizer = tiny_tokenizer()
    ids = np.array(tokenizer("<s>the cat sat on the mat").input_ids, dtype=np.int32)
    targets = np.zeros(len(ids), dtype=bool)
    targets[[0, 3, 4, len(ids) - 1]] = True  # the first is learnt by nobody
    row = Row(ids, targets, weight=0.5, place="a:1")
    text = row_text(row, tokenizer, coloured=True)
    assert text.plain == tokenizer.decode(ids)
    bold = [text.plain[span.start : span.end] for span in text.spans if "bold" in str(span.style)]
    assert bold == [tokenizer.decode(ids[3:5]), tokenizer.decode(ids[-1:])]
    assert row_text(row, tokenizer, coloured=False).plain.replace("«", "").replace("»", "") == text.plain
    screen = io.StringIO()
    show_rows([(7, row)], tokenizer, Console(file=screen, force_terminal=True, color_system="truecolor", width=80))
    assert "\x1b[1;32m" in screen.getvalue()
    assert "«" not in screen.getvalue()
    assert "row 7, a:1" in screen.getvalue()
    assert "weight 0.5" in screen.getvalue()


def test_spans_keep_the_blanks_that_a_tokenizer_hides_at_the_start_of_a_text() -> None:
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate(["<unk>", "▁a", "▁b", "▁c"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.decoder = decoders.Metaspace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    row = Row(np.array([1, 2, 3]), np.array([False, True, True]))
    assert row_text(row, fast, coloured=False).plain == "a« b c»"
