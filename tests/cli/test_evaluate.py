"""`whet evaluate` and `whet compare` as a user gives them: figures where they should be, and bad input."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from pyarrow import parquet
from safetensors.torch import load_file, save_file

from whet.cli import main


@pytest.fixture
def whet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run a command in an empty folder; (exit code, what it printed, what it said is wrong)."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["whet", *words])
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


def write(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path.name


def row(prompt: str, completion: str = "yes", **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "completion": completion, **more}


OWN = """
def halves(completions, prompt, **columns):
    return [1 / (0 if "b" in text else 2) for text in prompt]
def few(completions, **columns):
    return [1.0]
"""


@pytest.mark.parametrize(
    ("rows", "words", "said"),
    [
        ([{"prompt": "a"}], ["--metrics", "exact_match"], "rows.jsonl:1: no shape recognised"),
        ([row("a"), {"prompt": "b"}], ["--metrics", "exact_match"], "rows.jsonl:2: no `completion` here"),
        ([row("a"), row("cat " * 400)], ["--metrics", "length"], "1 of 2 prompts cannot be answered: rows.jsonl:2"),
        (
            [row("a"), row("cat " * 400), row("cat " * 500)], ["--metrics", "classify", "--labels", "yes,no"],
            "rows.jsonl:2: the row has",
        ),
        (
            [row("a"), row("b", "no")], ["--metrics", "classify", "--labels", "yes,maybe"],
            "rows.jsonl:2: the answer 'no' is none of",
        ),
        ([row("a"), row("b")], ["--metrics", "choice"], "rows.jsonl:1: no `options`"),
        ([row("a"), row("b")], ["--metrics", "own.py:halves"], "rows.jsonl:2: metric halves: ZeroDivisionError"),
        ([row("a"), row("b")], ["--metrics", "own.py:few"], "must give a number a row, 2 in all"),
        ([row("a")], ["--metrics", "judge"], "no judge named"),
        ([row("a")], ["--metrics", "judge", "judge.model=m"], "needs `model` and `endpoint`"),
        ([row("a")], ["--metrics", "judge", "judge.modle=m"], "Did you mean 'model'"),
        ([row("a")], ["--slice", "topic"], "no column 'topic'"),
        ([row("a")], ["--task", "x.yaml"], "rows and --task"),
    ],
)  # fmt: skip
def test_bad_input_is_named(
    whet: Any, model_folder: Path, tmp_path: Path, rows: Any, words: list[str], said: str
) -> None:
    (tmp_path / "own.py").write_text(OWN)
    data = write(tmp_path / "rows.jsonl", *rows)
    code, _, told = whet("evaluate", str(model_folder), data, *words, "--max-new-tokens", "2", "--quiet")
    assert (code, told.startswith("error: ")) == (2, True), told
    assert said in told
    assert not list(tmp_path.rglob("evaluation.json"))


def test_nothing_named_and_nothing_there(whet: Any, model_folder: Path) -> None:
    assert "name a file of rows, or --task" in whet("evaluate", str(model_folder))[2]
    (Path.cwd() / "none").mkdir()
    assert "no task file here" in whet("evaluate", str(model_folder), "--task", "none")[2]


def test_a_folder_of_something_else_is_left_alone(whet: Any, model_folder: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "rows.jsonl", row("a"), row("b"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    code, _, told = whet("evaluate", str(model_folder), data, "--output", "mine", "--quiet")
    assert (code, "something else is there" in told) == (2, True)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_what_is_odd_is_counted(whet: Any, model_folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", row("a", "yes"), row("b", "no"), row("c", "no"))
    words = ["evaluate", str(model_folder), "--quiet"]
    _, out, _ = whet(*words, "rows.jsonl", "--metrics", "accuracy", "--max-new-tokens", "1")
    assert "accuracy: 3 of 3 answers begin with none of the labels" in out
    write(tmp_path / "long.jsonl", row("a", "cat " * 300), row("b", "no"))
    _, out, _ = whet(*words, "long.jsonl")
    assert "1 of 2 rows are longer than the 128 tokens that the model takes, and scored by sliding window" in out
    write(tmp_path / "room.jsonl", row("cat " * 40, ""), row("b", "no"))
    _, out, _ = whet(*words, "room.jsonl", "--metrics", "length", "--max-new-tokens", "100")
    assert "1 of 2 prompts leave less than 100 tokens: room.jsonl:1" in out
    assert "1 of 2 references are empty: room.jsonl:1" in out


@pytest.mark.parametrize(
    ("metric", "said"),
    [("perplexity", "are not numbers"), ("classify", "are not numbers"), ("exact_match", "gives no numbers (NaN)")],
)
def test_a_model_that_gives_no_numbers(whet: Any, model_folder: Path, tmp_path: Path, metric: str, said: str) -> None:
    weights = load_file(model_folder / "model.safetensors")
    name = next(name for name in weights if "down_proj" in name)
    weights[name] = torch.full_like(weights[name], float("nan"))
    save_file(weights, model_folder / "model.safetensors", metadata={"format": "pt"})
    data = write(tmp_path / "rows.jsonl", row("a"), row("b", "no"))
    code, _, told = whet("evaluate", str(model_folder), data, "--metrics", metric, "--quiet")
    assert (code, said in told) == (2, True), told


def test_tasks_of_a_folder_are_one_evaluation(whet: Any, model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    for shift, name in enumerate(("even", "odd")):
        questions = [{"q": f"is {n} {name}?", "c": ["yes", "no, no"], "a": (n + shift) % 2} for n in range(6)]
        if name == "odd":
            questions[4]["q"] = "cat " * 200
        write(tmp_path / "tasks" / f"{name}.jsonl", *questions)
        task = {
            "task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": f"{name}.jsonl"}},
            "test_split": "test", "output_type": "multiple_choice", "doc_to_text": "{{q}}", "doc_to_choice": "c",
            "doc_to_target": "a",
        }  # fmt: skip
        (tmp_path / "tasks" / f"{name}.yaml").write_text(yaml.safe_dump(task))
    code, _, told = whet("evaluate", str(model_folder), "--task", "tasks", "--quiet")
    assert (code, "1 of 12 questions are longer than the 128 tokens" in told) == (2, True), told
    code, out, told = whet("evaluate", str(model_folder), "--task", "tasks", "--cut", "--output", "out", "--quiet")
    assert code == 0, told
    assert "1 of 12 questions are longer than the 128 tokens" in out
    tree = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    rows = parquet.read_table(tmp_path / "out" / "rows.parquet").to_pylist()
    right = [(n + (n >= 6)) % 2 for n in range(12)]  # row 6 is `odd`'s first
    logps = np.array([json.loads(one["logps"]) for one in rows])
    assert tree["figures"]["acc"]["value"] == pytest.approx((logps.argmax(1) == right).mean())
    by_length = (logps / [len("yes"), len("no, no")]).argmax(1)
    assert tree["figures"]["acc_norm"]["value"] == pytest.approx((by_length == right).mean())
    assert tree["slices"]["task"]["odd"]["acc"]["value"] == pytest.approx((logps.argmax(1) == right)[6:].mean())


def test_a_run_is_compared_with_its_base_and_on_a_general_set(
    whet: Any, chat_server: Any, lora_run: Path, tmp_path: Path
) -> None:
    chat_server.reply = lambda body, number: "Better: tie"
    write(tmp_path / "rows.jsonl", *(row(f"a{n}") for n in range(6)))
    write(tmp_path / "general.jsonl", *(row(f"b{n}", "no") for n in range(6)))
    judge = [f"judge.endpoint={chat_server.url}", "judge.model=m"]
    words = ["--general", "general.jsonl", "--max-new-tokens", "2", "--quiet"]
    code, out, told = whet("compare", str(lora_run), "rows.jsonl", *judge, *words)
    assert code == 0, told
    assert out.count("bits_per_byte") == 2
    assert out.count("preferred") == 2
    assert "forgetting: " in out
    for name in ("rows-against", "general-general"):
        tree = json.loads((lora_run / "evaluations" / name / "evaluation.json").read_text())
        assert {one["name"] for one in tree["comparison"]["differences"]} == {
            "perplexity",
            "bits_per_byte",
            "preferred",
        }
        assert tree["comparison"]["judge"]["agreement_of_orders"] == 1
