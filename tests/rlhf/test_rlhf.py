"""The circle, small: every stage runs, a stage that is done is not done again, and what is wrong is said before any."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from whet.api import resume, run
from whet.cli import app
from whet.errors import RecipeError, RowError, RunError
from whet.recipe.rlhf import load_rlhf
from whet.rlhf.run import circle

TRAIN = {"batch_size": 8, "max_steps": 2, "learning_rate": 5e-4, "max_length": 128}
LONG = {"type": "length", "name": "long", "unit": "characters", "min": 400, "slope": 0.002}


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    names = ["Anna", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry"]
    rows = [{"prompt": f"Greet {name} {i}.", "completion": f"Hello {name}."} for name in names for i in range(2)]
    write(tmp_path / "sft.jsonl", rows)
    write(tmp_path / "prompts.jsonl", [{"prompt": row["prompt"]} for row in rows])
    write(tmp_path / "test.jsonl", [{"prompt": f"Greet {name} again."} for name in names[:4]])
    return {
        "model": "whet-tiny",
        "output": "out",
        "sft": {"data": "sft.jsonl", "train": TRAIN},
        "preferences": {"prompts": "prompts.jsonl", "grader": LONG, "answers": 2, "max_new_tokens": 12},
        "reward": {"train": TRAIN},
        "policy": {
            "data": "prompts.jsonl",
            "objective": {"kind": "ppo", "max_new_tokens": 8, "num_iterations": 1},
            "train": TRAIN,
        },
        "compare": {"prompts": "test.jsonl", "grader": LONG, "max_new_tokens": 8, "perplexity": "sft.jsonl"},
    }


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def loaded(tree: dict[str, Any]) -> Any:
    Path("rlhf.yaml").write_text(yaml.safe_dump(tree))
    return load_rlhf("rlhf.yaml")


def test_all_stages_run_once(recipe: dict[str, Any]) -> None:
    trained: list[str] = []

    def train(stage: Any) -> Any:
        trained.append(stage.output)
        return run(stage, quiet=True)

    made = circle(loaded(recipe), train, resume)
    assert trained == ["out/1-sft", "out/3-reward", "out/4-policy"]
    assert (made.folder / "1-sft-merged" / "config.json").is_file()
    policy = yaml.safe_load((made.policy / "recipe.yaml").read_text())
    assert policy["model"]["name"] == "out/1-sft-merged"
    assert policy["objective"]["grader"]["model"] == "out/3-reward"
    pairs = [json.loads(line) for line in Path("out/2-preferences/preferences.jsonl").read_text().splitlines()]
    assert pairs
    assert all(len(pair["chosen"]) > len(pair["rejected"]) for pair in pairs)  # what the grader likes
    assert made.comparison is not None
    told = json.loads(Path("out/comparison.json").read_text())
    assert told["prompts"] == 4
    assert told["differences"][0]["name"] == "long"
    assert all(value > 1 for value in told["perplexity"])
    assert "4-policy/report.html" in Path("out/report.html").read_text()
    trained.clear()
    circle(loaded(recipe), train, resume)
    assert trained == []


def test_a_stage_that_was_interrupted_goes_on(recipe: dict[str, Any]) -> None:
    recipe |= {"reward": None, "policy": {"objective": "dpo", "train": TRAIN}, "compare": None}
    Path("out").mkdir()
    seen: list[Path] = []

    def stopped(stage: Any) -> Any:
        made = run(stage, quiet=True)
        if "4-policy" in stage.output:  # as if the process had ended before the summary was written
            (made.folder / "summary.json").unlink()
            raise KeyboardInterrupt
        return made

    def go_on(folder: Path) -> Any:
        seen.append(folder)
        return resume(folder, quiet=True)

    Path("out").rmdir()
    with pytest.raises(KeyboardInterrupt):
        circle(loaded(recipe), stopped, go_on)
    made = circle(loaded(recipe), stopped, go_on)
    assert seen == [Path("out/4-policy")]
    assert json.loads((made.policy / "summary.json").read_text())["status"] == "finished"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"policy": {"data": "prompts.jsonl", "objective": "pp0"}}, "policy.objective is 'pp0'"),
        ({"reward": None}, "add `reward`"),
        ({"policy": {"objective": "dpo"}}, "needs no reward model"),
        ({"sft": {"data": "sft.jsonl", "model": "x"}}, "`model` follows from the stages"),
        ({"preferences": {"data": "a.jsonl", "review": "b"}}, "one of data, review and grader"),
        ({"preferences": {"grader": LONG}}, "name both, or neither"),
    ],
)
def test_what_does_not_go_together(recipe: dict[str, Any], change: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        loaded(recipe | change)


def test_every_stage_is_checked_before_the_first(recipe: dict[str, Any]) -> None:
    recipe["policy"]["train"] = {"max_step": 3}
    Path("rlhf.yaml").write_text(yaml.safe_dump(recipe))
    result = CliRunner().invoke(app, ["rlhf", "rlhf.yaml"])
    assert isinstance(result.exception, RecipeError)
    assert "max_step" in str(result.exception)
    assert not Path("out").exists()
    recipe["policy"]["train"] = TRAIN
    recipe["compare"]["prompts"] = "nowhere.jsonl"
    with pytest.raises(RecipeError, match=r"nowhere\.jsonl"):
        circle(loaded(recipe), run, resume)
    assert not Path("out").exists()


def test_the_folder_of_another_recipe_is_left_alone(recipe: dict[str, Any]) -> None:
    Path("out").mkdir()
    (Path("out") / "rlhf.json").write_text("{}")
    with pytest.raises(RunError, match="another recipe"):
        circle(loaded(recipe), run, resume)
    assert (Path("out") / "rlhf.json").read_text() == "{}"


def test_answers_that_are_all_worth_the_same(recipe: dict[str, Any]) -> None:
    recipe |= {"sft": None}
    recipe["preferences"]["grader"] = {"type": "string_check", "operation": "eq", "reference": "never said"}
    with pytest.raises(RowError, match="worth the same"):
        circle(loaded(recipe), run, resume)


def test_a_reviews_results_are_taken(recipe: dict[str, Any]) -> None:
    review = Path("review/results")
    review.mkdir(parents=True)
    write(review / "preferences.jsonl", [{"prompt": f"p{i}", "chosen": "good", "rejected": "bad"} for i in range(8)])
    recipe |= {"sft": None, "reward": None, "policy": {"objective": "dpo", "train": TRAIN}, "compare": None}
    recipe["preferences"] = {"review": "review"}
    made = circle(loaded(recipe), lambda stage: run(stage, quiet=True), resume)
    assert Path("out/2-preferences/preferences.jsonl").read_text() == (review / "preferences.jsonl").read_text()
    assert (made.policy / "adapter").is_dir()
