"""Task files against lm-eval's own log-probabilities for whet-tiny (lm_eval/make.py), and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from whet.errors import RecipeError, RowError
from whet.evaluate.choice import answer
from whet.evaluate.score import Scorer
from whet.evaluate.tasks import read_task
from whet.models.saved import open_run

HERE = Path(__file__).parent / "lm_eval"


@pytest.fixture(scope="module")
def tiny():
    return open_run("whet-tiny", dtype=torch.float32)


@pytest.mark.parametrize("file", ["task", "words"])
def test_the_same_as_lm_eval_row_by_row(tiny, file):
    expected = json.loads((HERE / "expected.json").read_text())[file]
    found = answer(Scorer.of(tiny), tiny.tokenizer, read_task(HERE / f"{file}.yaml").questions(), ("sum", "mean"))
    np.testing.assert_allclose([one.logps["sum"] for one in found], expected["logps"], atol=1e-3)
    assert [float(one.right("sum")) for one in found] == expected["acc"]
    if file == "words":
        assert [float(one.right("mean")) for one in found] == expected["acc_norm"]


def test_shots_can_be_left_out():
    bare, shown = read_task(HERE / "task.yaml").questions(0), read_task(HERE / "task.yaml").questions()
    for short, long in zip(bare, shown, strict=True):
        assert long.context.endswith(short.context.removeprefix("Answer with the right letter.\n\n"))
        assert long.context.count("Answer: ") == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"doc_to_txt": "x"}, "`doc_to_txt` is not read"),
        ({"output_type": "generate_until"}, "only multiple-choice tasks"),
        ({"dataset_path": "cais/mmlu"}, "is no local data"),
        ({"fewshot_config": {}}, "drawn at random"),
        ({"fewshot_split": "test"}, "no split for few-shot examples"),
        ({"test_split": "tset"}, "no data_files for split 'tset'"),
    ],
)
def test_what_is_not_read_is_said(tmp_path, change, message):
    tree = yaml.safe_load((HERE / "task.yaml").read_text()) | change
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(tree))
    (tmp_path / "dev.jsonl").write_text((HERE / "dev.jsonl").read_text())
    with pytest.raises(RecipeError, match=message):
        read_task(tmp_path / "task.yaml").questions()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"doc_to_target": "{{answer}}"}, "the answer 'A' is none of the options"),
        ({"doc_to_choice": "{{question}}"}, "gives no list"),
        ({"doc_to_text": "{{questoin}}"}, "'questoin' is undefined"),
    ],
)
def test_rows_that_do_not_fit_are_named(tmp_path, change, message):
    tree = yaml.safe_load((HERE / "words.yaml").read_text()) | change
    (tmp_path / "words.yaml").write_text(yaml.safe_dump(tree))
    (tmp_path / "test.jsonl").write_text((HERE / "test.jsonl").read_text())
    with pytest.raises(RowError, match=message) as caught:
        read_task(tmp_path / "words.yaml").questions()
    assert caught.value.where.endswith("test.jsonl:1")
