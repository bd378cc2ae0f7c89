"""Bad input on the command line: one clear message with its place, exit code 2, and nothing half-written."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from whet.cli import main

GOOD = {"messages": [{"role": "user", "content": "the cat?"}, {"role": "assistant", "content": "sat"}]}


@pytest.fixture
def whet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `whet train` in an empty folder; the message on standard error, after checking code and traces."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> str:
        before = {path for path in tmp_path.rglob("*") if path.is_file()}
        monkeypatch.setattr(sys, "argv", ["whet", "train", *words])
        capsys.readouterr()  # what the fixtures printed
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        assert ended.value.code == 2, told.err
        assert "Traceback" not in told.err
        assert told.err.startswith("error: ")
        assert {path for path in tmp_path.rglob("*") if path.is_file()} == before
        return told.err

    return call


def rows(folder: Path, *lines: Any) -> str:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "rows.jsonl").write_text(text)
    return "data=rows.jsonl"


def turns(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in pairs]}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([GOOD] * 6 + ['{"messages": [}']  , ["rows.jsonl:7"]),
        ([], ["rows.jsonl", "empty"]),
        ([GOOD, {**GOOD, "text": "the cat"}], ["rows.jsonl:2", "messages", "text"]),
        ([GOOD, {"text": "the cat"}], ["rows.jsonl:2", "rows.jsonl:1"]),
        ([GOOD, turns(("user", "?"), ("assistent", "sat"))], ["rows.jsonl:2", "assistent", "assistant"]),
        ([GOOD, turns(("user", "?"))], ["rows.jsonl:2", "assistant"]),
        ([GOOD] * 9 + [turns(("user", "?"), ("assistant", "the cat " * 99))], ["rows.jsonl:10", "max_loss_share"]),
    ],
    ids=["broken JSON", "empty", "two shapes", "mixed shapes", "role", "no assistant", "too long"],
)  # fmt: skip
def test_rows(whet: Callable[..., str], model_folder: Path, tmp_path: Path, lines: list[Any], said: list[str]) -> None:
    message = whet(f"model={model_folder}", rows(tmp_path, *lines), "validation=0")
    assert all(part in message for part in said), message


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train.epoch=1"], ["train.epoch", "'epochs'"]),
        (["method.r=0"], ["method.r", "0"]),
        (["train.learning_rate=fast"], ["train.learning_rate", "'fast'"]),
        (["method.kind=lor"], ["method", "lora"]),
        (["data=nowhere.jsonl"], ["nowhere.jsonl"]),
        (["track=[tensorbord]"], ["tensorbord", "'tensorboard'"]),
        (["nonsense"], ["nonsense"]),
    ],
)
def test_settings(
    whet: Callable[..., str], model_folder: Path, tmp_path: Path, words: list[str], said: list[str]
) -> None:
    message = whet(f"model={model_folder}", rows(tmp_path, GOOD, GOOD), *words)
    assert all(part in message for part in said), message


def test_a_template_that_raises(whet: Callable[..., str], model_folder: Path, tmp_path: Path) -> None:
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
    body = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    (model_folder / "chat_template.jinja").write_text(template + body)
    refused = turns(("system", "x"), ("user", "?"), ("assistant", "sat"))
    message = whet(f"model={model_folder}", rows(tmp_path, GOOD, refused))
    assert "rows.jsonl:2" in message
    assert "no system here" in message


def test_a_model_without_weights(whet: Callable[..., str], model_folder: Path, tmp_path: Path) -> None:
    (model_folder / "model.safetensors").unlink()
    message = whet(f"model={model_folder}", rows(tmp_path, GOOD, GOOD))
    assert str(model_folder) in message
    assert "weights" in message


def test_a_model_with_a_pickle(whet: Callable[..., str], model_folder: Path, tmp_path: Path) -> None:
    (model_folder / "model.safetensors").rename(model_folder / "pytorch_model.bin")
    message = whet(f"model={model_folder}", rows(tmp_path, GOOD, GOOD))
    assert "pickle" in message
    assert "pytorch_model.bin" in message


def test_a_tokenizer_of_another_size(
    whet: Callable[..., str], model_folder: Path, tmp_path: Path, tiny_model: Callable[..., Any]
) -> None:
    tiny_model(vocab_size=200).save_pretrained(model_folder)
    message = whet(f"model={model_folder}", rows(tmp_path, GOOD, GOOD))
    assert "200" in message
    assert "287" in message


def test_an_output_folder_that_holds_something(whet: Callable[..., str], model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "letter.txt").write_text("mine")
    message = whet(f"model={model_folder}", rows(tmp_path, GOOD, GOOD), "output=taken")
    assert "output=taken" in message


def test_resume_of_what_is_no_run(whet: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no recipe.yaml" in whet("--resume", "empty")


def test_an_output_folder_that_cannot_be_written(whet: Callable[..., str], model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    message = whet(f"model={model_folder}", rows(tmp_path, GOOD, GOOD), "validation=0", "output=file/run")
    assert "output=file/run" in message
