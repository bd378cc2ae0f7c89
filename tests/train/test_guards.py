"""What a run refuses or stops: other rows at resume, two processes, weights that are no numbers, rows without use."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from whet.errors import PreflightError, RecipeError, RunError, TrainingError
from whet.train.checkpoint import steps_saved
from whet.train.run import resume, run


@pytest.fixture
def unfinished(recipe_of: Any) -> Path:
    """A run of 6 steps, as if it had been killed before it wrote its result."""
    done = run(recipe_of(max_steps=6), quiet=True)
    (done.folder / "summary.json").unlink()
    return done.folder


def edit(folder: Path, **train: Any) -> None:
    tree = yaml.safe_load((folder / "recipe.yaml").read_text())
    tree["train"] |= train
    (folder / "recipe.yaml").write_text(yaml.safe_dump(tree))


def test_other_rows_are_refused_at_resume(unfinished: Path, rows: Path) -> None:
    rows.write_text(rows.read_text().replace("the cat sat", "the cat ran"))
    with pytest.raises(RunError, match="the rows are not those that the run began with"):
        resume(unfinished, quiet=True)


def test_other_settings_are_refused_at_resume_and_harmless_ones_are_not(unfinished: Path) -> None:
    edit(unfinished, learning_rate=0.02)
    with pytest.raises(RunError, match=r"method, objective or train in recipe\.yaml"):
        resume(unfinished, quiet=True)
    edit(unfinished, learning_rate=0.01, keep_checkpoints=5)
    assert resume(unfinished, quiet=True).summary["steps"] == 6


@pytest.mark.parametrize("text", ["[]", "{", '{"fingerprint": {}}', '{"step": 6, "fingerprint": 1}'])
def test_a_position_that_is_none_is_named(unfinished: Path, text: str) -> None:
    (unfinished / "checkpoints" / "step-6" / "position.json").write_text(text)
    with pytest.raises(RunError, match=r"step-6(?s:.*)delete it"):
        resume(unfinished, quiet=True)


@pytest.mark.parametrize("change", [{"step": None}, {"step": "6"}, {"more": 1}, {"evaluations": [1]}])
def test_a_position_with_another_value_is_named(unfinished: Path, change: dict[str, Any]) -> None:
    path = unfinished / "checkpoints" / "step-6" / "position.json"
    tree = json.loads(path.read_text()) | change
    path.write_text(json.dumps({key: value for key, value in tree.items() if value is not None}))
    with pytest.raises(RunError, match=r"not what whet wrote(?s:.*)delete it"):
        resume(unfinished, quiet=True)


def test_what_others_left_beside_does_not_stop_a_resume(unfinished: Path) -> None:
    (unfinished / "checkpoints" / "step-6.bak").mkdir()
    (unfinished / "checkpoints" / "step-6.bak" / "position.json").write_text("{}")
    with (unfinished / "metrics.jsonl").open("ab") as file:
        file.write(b'[]\n{"x": 1}\n\xff\n')
    (unfinished / "summary.json").write_text("[1]")
    assert steps_saved(unfinished)[-1] == 6
    assert resume(unfinished, quiet=True).summary["steps"] == 6


def test_a_second_process_is_kept_out(recipe_of: Any, unfinished: Path) -> None:
    with (unfinished / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="another process is at work"):
            resume(unfinished, quiet=True)
    assert resume(unfinished, quiet=True).summary["status"] == "finished"


def test_a_folder_taken_while_the_rows_were_read_stays_the_others(recipe_of: Any, monkeypatch: Any) -> None:
    """The look at the folder and the making of it are seconds apart."""
    from whet.train import run as module

    done = run(recipe_of(max_steps=1), quiet=True)
    before = (done.folder / "recipe.yaml").read_bytes()
    monkeypatch.setattr(module, "free_folder", lambda recipe: done.folder)
    with pytest.raises(RunError, match="not empty"):
        run(recipe_of(max_steps=2), quiet=True)
    assert (done.folder / "recipe.yaml").read_bytes() == before


LAST_UPDATE = {"max_steps": 1, "warmup_steps": 0, "learning_rate": 1e300, "max_grad_norm": 0}


def test_a_last_update_to_no_number_is_no_result(recipe_of: Any) -> None:
    recipe = recipe_of(**LAST_UPDATE)
    with pytest.raises(TrainingError, match=r"held-out loss is nan after step 1(?s:.*)learning_rate"):
        run(recipe, quiet=True)
    recipe = recipe_of("unmeasured", **LAST_UPDATE)
    recipe.validation = 0.0
    with pytest.raises(TrainingError, match=r"no longer finite after step 1(?s:.*)learning_rate"):
        run(recipe, quiet=True)
    assert not (Path(recipe.output) / "adapter").exists()
    assert not steps_saved(Path(recipe.output))


def test_a_run_of_one_step_learns(recipe_of: Any) -> None:
    done = run(recipe_of(max_steps=1), quiet=True)
    assert done.summary["after"]["loss"] < done.summary["before"]["loss"]
    with pytest.raises(RecipeError, match="learning rate is 0"):
        run(recipe_of("again", max_steps=1, warmup_steps=1), quiet=True)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "where is the cat", "completion": ""}, "an empty answer"),
        ({"prompt": "where is the cat", "completion": "  "}, "an empty answer"),
        ({"prompt": "where is the cat", "completion": "home", "weight": 0}, "the row has weight 0"),
    ],
)
def test_a_row_that_teaches_nothing_is_counted(recipe_of: Any, rows: Path, row: dict[str, Any], reason: str) -> None:
    good = [{"prompt": f"where is the dog {n}", "completion": "home"} for n in range(9)]
    rows.write_text("\n".join(json.dumps(one) for one in [*good, row]))
    with pytest.raises(PreflightError, match=rf"1 of \d+ (training|validation) rows .*jsonl:10 \({reason}\)"):
        run(recipe_of(), quiet=True)


@pytest.mark.parametrize("output", ["{", "{model.x}", "runs/{nothing}", "a\0b"])
def test_an_output_that_names_no_folder(recipe_of: Any, output: str) -> None:
    recipe = recipe_of()
    recipe.output = output
    with pytest.raises(RecipeError, match="is no folder's name"):
        run(recipe, quiet=True)
