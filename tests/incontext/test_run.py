"""A prompt run from rows to folder, opened again by a new process and by the other commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from whet.errors import ModelError, RecipeError, RowError, RunError, WhetError
from whet.evaluate.run import evaluate
from whet.evaluate.score import Scorer
from whet.evaluate.subject import open_subject, read_rows
from whet.incontext.folder import write
from whet.incontext.measure import label_rows, measure
from whet.incontext.rows import as_example
from whet.incontext.run import Prompted, prompt
from whet.models.export.formats import export
from whet.models.saved import open_run, open_sides
from whet.recipe import DataPart, InContextPart, load_recipe
from whet.tokens.template import Renderer
from whet.train.run import run as train
from whet.train.runs import list_runs

TOPICS = {"cat": "pet", "dog": "pet", "mat": "thing", "rug": "thing"}
WORDS = ["sat", "lay", "ran", "went", "then", "home"]


def save(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def make(word: str, noun: str, number: int) -> dict[str, Any]:
    return {"prompt": f"{noun} {word} {number}", "completion": TOPICS[noun], "topic": noun}


@pytest.fixture
def data(tmp_path: Path) -> str:
    return save(tmp_path / "rows.jsonl", [make(word, noun, 0) for word in WORDS for noun in TOPICS])


@pytest.fixture
def test_rows(tmp_path: Path) -> str:
    return save(tmp_path / "test.jsonl", [make(word, noun, 1) for word in WORDS[:3] for noun in TOPICS])


def made(model: Path, data: str, output: Path, **settings: Any) -> Prompted:
    own = {
        name: settings.pop(name) for name in list(settings) if name in InContextPart.model_fields and name != "shots"
    }
    found = prompt(str(model), DataPart(path=data), part=InContextPart(**own), output=str(output), **settings)
    assert write(found) == output
    return found


KINDS = {
    "fixed": {"choose": "random", "shots": (2,), "calibrate": True, "instruction": "say"},
    "diverse": {"choose": "diverse", "shots": (2,), "balanced": True},
    "nearest": {"choose": "nearest", "shots": (2,), "calibrate": True, "template": "on: {{ prompt }}"},
    "embeddings": {"choose": "mmr", "similarity": "embeddings", "shots": (2,)},
    "columns": {"shots": (1,), "template": "{{ topic }} {{ prompt }}", "calibrate": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_asks_as_the_search_did(model_folder: Path, data: str, test_rows: str, tmp_path: Path, kind: str) -> None:
    settings = dict(KINDS[kind])
    instructions = (settings.pop("instruction", ""),)
    found = made(model_folder, data, tmp_path / "run", instructions=instructions, validation=test_rows, **settings)
    subject = open_subject(str(tmp_path / "run"))
    examples = subject.asked(read_rows(test_rows))
    scorer, calibrate = Scorer(subject.model, len(subject.tokenizer)), bool(settings.get("calibrate"))
    again = measure(scorer, subject.renderer, examples, ["pet", "thing"], calibrate=calibrate).probabilities()
    answers = [["pet", "thing"].index(example.messages[-1]["content"]) for example in examples]
    order = np.random.default_rng(0).permutation(len(examples))  # the search's
    expected = np.log([again[row, answers[row]] for row in order])
    assert found.candidates[0].logs == pytest.approx(expected, abs=1e-4)
    evaluated = evaluate(str(tmp_path / "run"), test_rows, ["classify"])
    assert evaluated["classify"] == pytest.approx(found.candidates[0].accuracy().value)


def test_a_new_process_gives_the_same_log_probabilities(
    model_folder: Path, data: str, test_rows: str, tmp_path: Path
) -> None:
    found = made(model_folder, data, tmp_path / "run", shots=(3,), instructions=("say",))
    loaded = open_run(str(model_folder), dtype=torch.float32)
    rows, shown = read_rows(test_rows), [as_example(one) for one in found.prompt.shown]
    asked = [row.__class__(row.place, row.shape, [{"role": "system", "content": "say"}, *row.messages]) for row in rows]
    expected = measure(Scorer.of(loaded), Renderer(loaded.tokenizer), asked, ["pet", "thing"], shown).logps_RL
    code = (
        "import sys, json\n"
        "from whet.evaluate.subject import open_subject, read_rows\n"
        "from whet.evaluate.score import Scorer\n"
        "from whet.incontext.measure import measure\n"
        "subject = open_subject(sys.argv[1])\n"
        "scorer = Scorer(subject.model, len(subject.tokenizer))\n"
        "found = measure(scorer, subject.renderer, read_rows(sys.argv[2]), ['pet', 'thing'])\n"
        "print(json.dumps(found.logps_RL.tolist()))"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "run"), test_rows]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={**os.environ})
    assert np.array(json.loads(done.stdout.splitlines()[-1])) == pytest.approx(expected, abs=1e-4)


def test_the_search_never_sees_test_rows(model_folder: Path, data: str, test_rows: str, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in Path(test_rows).read_text().splitlines()]
    mixed = save(tmp_path / "mixed.jsonl", [json.loads(line) for line in Path(data).read_text().splitlines()] + rows)
    wrong = [{**row, "completion": {"pet": "thing", "thing": "pet"}[row["completion"]]} for row in rows]
    others = save(tmp_path / "wrong.jsonl", wrong)
    settings = {"shots": (0, 2), "draws": 2, "budget": 40}
    one = made(model_folder, mixed, tmp_path / "one", test=test_rows, **settings)
    other = made(model_folder, mixed, tmp_path / "other", test=others, **settings)  # other labels, the same search
    assert [(c.number, c.right, c.logs) for c in one.candidates] == [
        (c.number, c.right, c.logs) for c in other.candidates
    ]
    assert one.to_show + one.validation == len(WORDS) * len(TOPICS)
    assert f"{len(rows)} rows ask what a test row asks, and are left out" in one.notes
    assert one.test["prompt"].value == pytest.approx(1 - other.test["prompt"].value)
    with pytest.raises(RecipeError, match="no rows are left to search by"):
        made(model_folder, mixed, tmp_path / "file", validation=test_rows, test=test_rows)


def test_what_is_shown_is_not_searched_by(model_folder: Path, data: str, tmp_path: Path) -> None:
    held = save(tmp_path / "held.jsonl", [make(word, noun, 0) for word in WORDS[:2] for noun in TOPICS])
    found = made(model_folder, data, tmp_path / "run", shots=(5,), validation=held)
    assert found.to_show == 16
    assert found.validation == 8
    assert not {one.question for one in found.prompt.shown} & {row.messages[0]["content"] for row in read_rows(held)}
    assert "8 rows ask what a validation row asks, and are not shown" in found.notes


def test_a_prompt_run_is_a_run(model_folder: Path, data: str, tmp_path: Path) -> None:
    made(model_folder, data, tmp_path / "runs" / "a", shots=(1,), instructions=("say",))
    (line,) = list_runs(tmp_path / "runs")
    assert (line.method, line.status, line.faults) == ("in_context", "finished", [])
    (base, run), _ = open_sides(tmp_path / "runs" / "a", base=True)
    assert base.model is run.model
    plain = open_run(str(model_folder))
    turns = [{"role": "user", "content": "the cat"}]
    assert Renderer(base.tokenizer).prompt(turns) == Renderer(plain.tokenizer).prompt(turns)
    assert len(Renderer(run.tokenizer).prompt(turns)) > len(Renderer(base.tokenizer).prompt(turns))
    compared = open_subject(str(tmp_path / "runs" / "a"), base=True)
    assert compared.prompt is None


def test_an_export_has_the_prompt_in_its_template(model_folder: Path, data: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    made(model_folder, data, run, shots=(1,), instructions=("say",))
    done = export(run, "hf")
    rows = label_rows(read_rows(data), ["pet", "thing"], open_subject(str(run)).renderer)
    again = label_rows(read_rows(data), ["pet", "thing"], open_subject(str(done.folder)).renderer)
    assert all((one.ids == other.ids).all() for one, other in zip(rows, again, strict=True))
    with pytest.raises(RunError, match="without an adapter"):
        export(run, "peft", out=tmp_path / "b")
    made(model_folder, data, tmp_path / "near", shots=(1,), choose="nearest")
    with pytest.raises(RunError, match="choose=nearest shows each question"):
        export(tmp_path / "near", "hf")
    made(model_folder, data, tmp_path / "columns", shots=(1,), template="{{ topic }} {{ prompt }}")
    with pytest.raises(RunError, match="filled from rows"):
        export(tmp_path / "columns", "hf")


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"shots": (9,)}, ModelError, r"9 demonstrations and the question .* tokens, and the model takes 128"),
        ({"shots": (99,)}, RowError, r"99 shots, and 19 rows"),
        ({"shots": (2,), "template": "{{ subject }}"}, RowError, r"rows.jsonl:1: .*`subject`(.|\n)*prompt, topic"),
        ({"labels": ["pet", "toy"]}, RowError, r"rows.jsonl:3: the answer 'thing' is none(.|\n)*pet, toy"),
        ({"labels": ["pet", "thing", "toy"], "balanced": True}, RowError, r"0 rows are labelled 'toy'"),
        ({"labels": ["pet"]}, RecipeError, r"1 different labels"),
        ({"shots": (0, 2), "draws": 4, "budget": 10}, RecipeError, r"5 candidates, and 10 rows"),
        ({"validation": 0.001}, RecipeError, r"0 of 24 rows for validation"),
    ],
)
def test_bad_input_is_told_and_leaves_nothing(
    model_folder: Path, data: str, tmp_path: Path, settings: dict[str, Any], error: type[WhetError], words: str
) -> None:
    with pytest.raises(error, match=words):
        made(model_folder, data, tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_test_rows_that_are_too_long_are_told_before_the_search(model_folder: Path, data: str, tmp_path: Path) -> None:
    long = [make("sat", "cat", n) for n in range(20, 40)]
    long[7]["prompt"] += " and went home" * 12
    asked = []
    with pytest.raises(ModelError, match=r"long.jsonl:8: 4 demonstrations .* 1 of \d+ rows are too long"):
        made(model_folder, data, tmp_path / "run", shots=(4,), test=save(tmp_path / "long.jsonl", long),
             done=lambda what, rows, of: asked.append(what))  # fmt: skip
    assert not asked


def test_a_label_that_no_row_has_is_told(model_folder: Path, data: str, tmp_path: Path) -> None:
    found = made(model_folder, data, tmp_path / "run", shots=(1,), labels=["pet", "thing", "toy"])
    assert found.notes == ["no row to show is labelled 'toy'", "no row for validation is labelled 'toy'"]
    other = save(tmp_path / "other.jsonl", [{"prompt": "x", "completion": "tree"}])
    with pytest.raises(RowError, match="'tree' is none of the prompt's labels"):
        evaluate(str(tmp_path / "run"), other, ["classify"])


def test_answers_that_are_no_labels_are_told(model_folder: Path, tmp_path: Path) -> None:
    data = save(tmp_path / "rows.jsonl", [{"prompt": f"{n}", "completion": f"text {n}"} for n in range(60)])
    with pytest.raises(RowError, match="60 different answers in 60 rows"):
        made(model_folder, data, tmp_path / "run")


def test_such_a_recipe_is_not_trained(model_folder: Path, data: str, tmp_path: Path) -> None:
    made(model_folder, data, tmp_path / "run", shots=(1,))
    recipe = load_recipe(tmp_path / "run" / "recipe.yaml")
    with pytest.raises(RecipeError, match="nothing is trained in context"):
        train(recipe.model_copy(update={"output": str(tmp_path / "other")}))
    assert not (tmp_path / "other").exists()
    with pytest.raises(RunError, match="prompts are made for a model"):
        made(tmp_path / "run", data, tmp_path / "other")
