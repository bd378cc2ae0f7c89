"""Advice end to end on a few of the rows in the package, with the model in it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import whet
from whet.advise import pilot, trial
from whet.advise.pilot import WAYS_THAT_TRAIN, run_pilot, ways_for
from whet.errors import RecipeError, RunError
from whet.recipe import Recipe, check_recipe, load_recipe

LABELLED = [{"prompt": f"{word} number {i}: good or bad?", "completion": ("good", "bad")[i % 2]}
            for i, word in enumerate(["case", "item", "thing"] * 10)]  # fmt: skip


@pytest.fixture
def labelled(tmp_path: Path) -> Recipe:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in LABELLED))
    return check_recipe({"data": str(path), "validation": 0.2, "train": {"batch_size": 4}}, "test")


def test_auto_by_memory_trains_says_why_and_can_be_resumed(tmp_path: Path) -> None:
    settings = {"method": {"kind": "auto", "pilot": False}, "train": {"max_steps": 1, "batch_size": 2}, "samples": 0}
    run = whet.train("whet-tiny", "quickstart#20", output=str(tmp_path / "run"), quiet=True, **settings)
    assert load_recipe(run.folder / "recipe.yaml").method.kind == "lora"  # what resuming reads
    told = json.loads((run.folder / "advice.json").read_text())
    assert told["reason"].startswith("lora r=8")
    assert {"full", "prefix"} <= {line["way"] for line in told["memory"]}
    assert whet.resume(run.folder, quiet=True).folder == run.folder


def test_the_loop_itself_refuses_auto() -> None:
    from whet.train.run import run

    with pytest.raises(RecipeError, match="must be resolved first"):
        run(check_recipe({"data": "quickstart", "method": "auto"}, "test"))


def test_a_pilot_measures_every_way_on_the_same_rows(labelled: Recipe) -> None:
    ways = [way for way in ways_for(labelled, 7_000_000) if way.name in ("zero-shot", "few-shot", "lora r=4")]
    said: list[str] = []
    progress: list[tuple[int, int]] = []
    found = run_pilot(labelled, ways, 1, 2, said.append, lambda done, of: progress.append((done, of)))
    assert [line.name for line in found.lines] == ["zero-shot", "few-shot", "lora r=4"]
    assert found.held_out == 6
    zero, few, lora = found.lines
    assert (zero.trained, few.shots) == (0, 4.0)
    assert lora.trained > 0
    assert lora.learning_rate
    assert ways[2].rates[0] / 4 < lora.learning_rate < ways[2].rates[-1] * 4
    for line in (zero, few, lora):  # good or bad
        assert line.accuracy is not None
        assert 0 <= line.accuracy.mean <= 1
    assert progress[-1] in [(5, 5), (6, 6)]  # one, one, and three rates, or four where the best was at the edge
    assert found.recipe.method.kind == "lora"  # ready to train even where nothing gains
    assert not said


def test_answers_no_better_than_the_commonest_are_called_so() -> None:
    def of(right: int) -> dict[str, list[trial.Result]]:
        hits = [1] * right + [0] * (100 - right)
        return {"lora": [trial.Result([-1.0] * 100, [1] * 100, [1] * 100, hits, 0.5, 1, 1.0, 1)]}

    assert pilot._no_better_than_the_commonest(of(90)) == []
    assert "50%" in pilot._no_better_than_the_commonest(of(55))[0]  # two standard errors are ten rows


def test_labels_are_few_and_come_often(labelled: Recipe) -> None:
    _, rows = trial.open_engine(labelled, 0)
    assert trial.labels_of(rows) == ["bad", "good"]
    _, rows = trial.open_engine(check_recipe({"data": "quickstart#20"}, "test"), 0)
    assert trial.labels_of(rows) == []


def test_demonstrations_come_before_and_only_the_rows_own_answer_is_learnt(labelled: Recipe) -> None:
    _, rows = trial.open_engine(labelled, 0)
    scored = trial.held_out(rows)
    asked, labels = trial._examples(rows, scored), trial.labels_of(rows)
    before = trial._demonstrations(labelled, 2, seed=0)
    longer, examples, shots = trial.with_demonstrations(scored, asked, before, labels, rows, labelled)
    assert shots == 2
    for short, long, example in zip(scored, longer, examples, strict=True):
        said = [message["content"] for message in example.messages if message["role"] == "assistant"]
        assert len(said) == 3
        assert said[-1] == trial._answer(next(each for each in asked if each.place == example.place))
        assert len(long) > len(short)
        assert long.ids[long.targets].tolist() == short.ids[short.targets].tolist()
        assert "good or bad?" in rows.renderer.tokenizer.decode(long.ids[: len(long) - len(short)])


def test_no_label_is_shut_out_for_want_of_room(labelled: Recipe) -> None:
    """Were there room for a row's own answer only, that would be the likeliest of those that fit."""
    _, rows = trial.open_engine(labelled, 0)
    scored = trial.held_out(rows)
    asked, before = trial._examples(rows, scored), trial._demonstrations(labelled, 1, seed=0)
    longer, _, shots = trial.with_demonstrations(scored, asked, before, ["good", "bad"], rows, labelled)
    assert shots == 1
    tight = replace(rows, max_length=max(map(len, longer)))
    _, examples, shots = trial.with_demonstrations(scored, asked, before, ["good", "bad " * 9], tight, labelled)
    assert (examples, shots) == (asked, 0)


def test_few_shot_answers_are_counted_behind_the_demonstrations(labelled: Recipe) -> None:
    """Beside transformers' own forward, a label at a time."""
    found = trial.run_trial(labelled, 0, 0, 2)
    engine, rows = trial.open_engine(labelled, 0)
    scored, labels = trial.held_out(rows), trial.labels_of(rows)
    asked, before = trial._examples(rows, scored), trial._demonstrations(labelled, 2, 0)
    _, longer, _ = trial.with_demonstrations(scored, asked, before, labels, rows, labelled)
    model, hits = engine.language_model.model.eval(), []
    for example, plain in zip(longer, asked, strict=True):
        sums = []
        for label in labels:
            row = trial._one(trial._answered(example, label), rows, labelled)
            assert row is not None
            ids, at = torch.tensor(row.ids[None].astype("int64")), torch.tensor(row.targets.nonzero()[0])
            with torch.no_grad():
                logps = model(ids).logits[0].float().log_softmax(-1)
            sums.append(float(logps[at - 1, ids[0, at]].sum()))
        hits.append(int(labels[sums.index(max(sums))] == trial._answer(plain)))
    assert found["hits"] == hits
    answers = [trial._answer(plain) for plain in asked]
    assert found["commonest"] == max(answers.count("good"), answers.count("bad")) / len(asked)


@pytest.mark.parametrize(("best_at", "tried", "at_edge"), [(1.0, 3, False), (3.0, 4, False), (9.0, 4, True)])
def test_one_more_learning_rate_is_tried_beyond_an_edge(
    labelled: Recipe, best_at: float, tried: int, at_edge: bool
) -> None:
    middle = 2e-3
    way = pilot.Way("lora", {"kind": "lora"}, (middle / 3, middle, middle * 3))
    rates: list[float] = []

    class Valley:
        """Trials whose loss is lowest at `best_at` times the middle rate."""

        def run(self, recipe: Recipe, seed: int, steps: int, shots: int) -> dict[str, Any]:
            rates.append(recipe.train.learning_rate)
            loss = 1 + abs(math.log(rates[-1] / (best_at * middle)))
            return asdict(trial.Result([-1.0], [1], [1], [], None, 1, 1.0, 1, training_loss=loss))

    found = pilot._measure(Valley(), labelled, way, 2, 1, lambda unplanned: None)  # type: ignore[arg-type]
    assert len(set(rates)) == tried
    assert found.rate == pytest.approx(best_at * middle, rel=0.15)
    assert found.at_edge == at_edge
    assert len(found.results) == 2


def test_a_quantized_base_has_no_full_fine_tuning_in_its_pilot() -> None:
    of = check_recipe({"data": "x", "model": {"quantize": "nf4"}}, "test")
    assert "full" not in [way.name for way in ways_for(of, 10**9)]
    assert {name for name, *_ in WAYS_THAT_TRAIN} >= {"full", "lora r=4"}


def test_a_pilot_needs_held_out_rows(labelled: Recipe) -> None:
    with pytest.raises(RunError, match="held-out"):
        run_pilot(labelled.model_copy(update={"validation": 0.0}), [], 1, 1)


def advise(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "whet", "advise", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_writes_recipe_figures_and_report(tmp_path: Path) -> None:
    done = advise("data=quickstart#20", "--devices", "2", "--json", "--output", str(tmp_path / "advice"))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["machine"]["devices"] == 2
    assert {line["sharding"] for line in told["memory"]} == {"plain", "zero1", "zero2", "zero3", "fsdp"}
    assert told == json.loads((tmp_path / "advice" / "advice.json").read_text())
    assert load_recipe(tmp_path / "advice" / "recipe.yaml").method.kind == "lora"
    assert "<script" not in (tmp_path / "advice" / "report.html").read_text()


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    done = advise("data=quickstart#20", "--output", str(tmp_path))
    assert done.returncode == 2
    assert "not empty" in done.stderr
    assert "Traceback" not in done.stderr
