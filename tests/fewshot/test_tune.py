"""Tuning on few rows: the verbalizer's gradient, early stopping, and figures of a whole measurement."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from sklearn.metrics import accuracy_score, f1_score

from whet.errors import RecipeError
from whet.fewshot.run import Cell, fewshot
from whet.fewshot.shots import Draw, labelled
from whet.fewshot.tune import _answers, _tell_apart, settings, trial
from whet.incontext.measure import label_rows
from whet.models.load import load
from whet.rows import Example
from whet.tokens.template import Renderer
from whet.train.preflight import prepare
from whet.train.start import Rows, start


def row(number: int, text: str, label: str) -> Example:
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": label}]
    return Example(place=f"rows:{number}", shape="conversation", messages=turns)


def easy(count: int) -> list[Example]:
    """One word decides."""
    words = ["cat", "dog", "mat", "rug", "home"]
    return [
        row(n, f"the {words[n % 5]} {'sat' if n % 2 else 'lay'} on {words[(n * 3 + n // 5) % 5]} {n}", "ab"[n % 2])
        for n in range(count)
    ]


@pytest.fixture
def recipe(model_folder):
    found = settings({"name": str(model_folder), "dtype": "float32"}, "full", 10**6, 24, 6, 0)
    return found.model_copy(update={"train": found.train.model_copy(update={"dtype": "float32"})})


def test_the_verbalizers_gradient_is_that_of_plain_cross_entropy_over_labels(recipe, gradients, assert_same):
    model = load(recipe.model).model
    renderer = Renderer(load(recipe.model).tokenizer)
    examples, labels = easy(7), ["a", "b"]
    rows = Rows(prepare(recipe, renderer, examples, [], 128), examples, [], renderer, 128)
    engine = start(recipe, rows, Accelerator(), 0).engine
    _tell_apart(engine, label_rows(examples, labels, renderer), range(7), _answers(examples, labels))

    total = torch.zeros(())
    for example in examples:
        sums = []
        for label in labels:
            context = f"<s><|user|>{example.messages[0]['content']}<|end|><|assistant|>"
            ids = renderer.tokenizer(context, add_special_tokens=False)["input_ids"]
            answer = renderer.tokenizer(f"{label}<|end|>", add_special_tokens=False)["input_ids"]
            logps = model(input_ids=torch.tensor([ids + answer])).logits[0, len(ids) - 1 : -1].log_softmax(-1)
            sums.append(logps.gather(1, torch.tensor(answer)[:, None]).sum())
        total = total - torch.stack(sums).log_softmax(0)["ab".index(example.messages[1]["content"])] / 7
    total.backward()
    assert_same(gradients(engine.language_model.model), gradients(model))


@pytest.mark.parametrize("way", ["full", "verbalizer"])
def test_an_easy_rule_is_learnt_from_a_few_rows(recipe, way):
    renderer = Renderer(load(recipe.model).tokenizer)
    rows = labelled(easy(80), {})
    faster = recipe.model_copy(
        update={"train": recipe.train.model_copy(update={"learning_rate": 0.01, "max_steps": 60})}
    )
    found = trial(faster, way, Draw(rows.examples[:24], rows.examples[24:32]), rows.take(range(32, 80)), renderer, 128)
    right = (found.logps_RL.argmax(1) == np.array(rows.answers[32:])).mean()
    assert right > 0.9
    assert 0 < found.best_step <= found.steps <= 60


def test_figures_are_sklearns():
    random = np.random.default_rng(0)
    logps, answers = random.normal(size=(3, 50, 4)), random.integers(0, 3, 50)
    cell = Cell("lora", 8, logps, 0.0)
    chosen = logps.argmax(2)
    for name, reference in (
        ("accuracy", accuracy_score),
        ("macro_f1", lambda a, b: f1_score(a, b, average="macro", zero_division=0)),
    ):
        found = cell.interval(name, answers)
        assert found.value == pytest.approx(np.mean([reference(answers, chosen[seed]) for seed in range(3)]))
        assert found.low < found.value < found.high


def test_the_interval_of_one_seed_covers_a_share_as_often_as_it_says():
    """500 samples of 100 rows, each right with probability .7."""
    random, covered = np.random.default_rng(1), 0
    for number in range(500):
        right = random.random(100) < 0.7
        logps = np.stack([np.where(right, 1.0, 0.0), np.where(right, 0.0, 1.0)], 1)[None]
        found = Cell("lora", 8, logps, 0.0).interval("accuracy", np.zeros(100, dtype=int), number)
        covered += found.low <= 0.7 <= found.high
    assert 0.90 <= covered / 500 <= 0.98


def test_every_way_is_measured_on_the_same_rows(model_folder, tmp_path):
    from whet.fewshot.page import tree, write

    path = tmp_path / "rows.jsonl"
    lines = [{"prompt": e.messages[0]["content"], "completion": e.messages[1]["content"]} for e in easy(60)]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    ways = ["zero-shot", "in context calibrated", "ia3", "prefix", "verbalizer"]
    found = fewshot(str(model_folder), str(path), k=[4], seeds=2, ways=ways, test=20, all_rows=True, steps=3)
    assert [(cell.way, cell.k) for cell in found.cells] == [
        ("zero-shot", None), *((way, 4) for way in ways[1:]), ("all rows", None),
    ]  # fmt: skip
    assert [cell.logps_SRL.shape for cell in found.cells] == [(1, 20, 2), *[(2, 20, 2)] * 5]
    page = write(found, tmp_path)
    assert "verbalizer" in page.read_text(encoding="utf-8")
    assert json.loads((tmp_path / "fewshot.json").read_text(encoding="utf-8")) == tree(found)
    with pytest.raises(RecipeError, match=r"no way 'lara'. Did you mean 'lora'"):
        fewshot(str(model_folder), str(path), ways=["lara"])
