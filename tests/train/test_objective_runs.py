"""Runs of preference objectives and policies: what is kept of the reference, and that going on changes nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from whet import api
from whet.errors import RecipeError
from whet.recipe import Recipe
from whet.rows import Row, with_companions
from whet.train import reference
from whet.train.checkpoint import steps_saved
from whet.train.engine import Engine
from whet.train.run import resume, run
from whet.train.start import open_rows, start

METHODS: dict[str, Any] = {"lora": {"kind": "lora", "lora_dropout": 0.2}, "full": "full"}


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def result(folder: Path) -> dict[str, torch.Tensor]:
    adapter = folder / "adapter" / "adapter_model.safetensors"
    return load_file(adapter if adapter.exists() else folder / "model" / "model.safetensors")


class _Stop(Exception):
    pass


def broken_off(recipe: Recipe, at: int) -> Path:
    """The folder of a run that was left in the middle of update `at`."""
    real, taken = Engine.optim_step, []

    def optim_step(self: Engine, rate: float) -> float:
        taken.append(rate)
        if len(taken) == at:
            raise _Stop
        return real(self, rate)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "optim_step", optim_step)
        with pytest.raises(_Stop):
            run(recipe, quiet=True)
    return Path(recipe.output)


RESUMED = {
    "dpo": {},
    "kto": {},
    "reward": {},
    "grpo": {"beta": 0.1},
    "ppo": {"kl_target": 0.5, "num_iterations": 1, "minibatches": 2},
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", RESUMED)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    objective_recipe: Callable[..., Recipe], kind: str, method: str
) -> None:
    settings = {"method": METHODS[method], "objective": RESUMED[kind], "train": {"learning_rate": 3e-3}}
    whole = run(objective_recipe(kind, "whole", **settings), quiet=True)
    updates = 2 if kind == "ppo" else 1
    folder = broken_off(objective_recipe(kind, "broken", **settings), at=3 * updates)
    assert steps_saved(folder) == [2]
    again = resume(folder, quiet=True)
    found, expected = result(again.folder), result(whole.folder)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    timed = ("tokens_per_second", "seconds")
    strip = lambda event: {key: value for key, value in event.items() if key not in timed}  # noqa: E731
    assert [strip(event) for event in lines(folder)] == [strip(event) for event in lines(whole.folder)]


def started(recipe: Recipe) -> tuple[Engine, list[Row], str]:
    """An engine that has taken no step, its rows, and the model's fingerprint."""
    from accelerate import Accelerator

    rows = open_rows(recipe)
    begun = start(recipe, rows, Accelerator(cpu=True), 0)
    return begun.engine, rows.prepared.train, begun.fingerprint


def base_scores(recipe: Recipe, rows: list[Row]) -> list[np.ndarray]:
    """By plain transformers, a row at a time."""
    model = AutoModelForCausalLM.from_pretrained(recipe.model.name, dtype=torch.float32).eval()
    found = []
    for row in rows:
        ids = torch.from_numpy(row.ids.astype(np.int64))[None]
        with torch.no_grad():
            logps = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        found.append(logps[torch.from_numpy(row.targets[1:])].numpy())
    return found


PISSA = {"kind": "lora", "init_lora_weights": "pissa", "r": 4}
VIRTUAL = {"kind": "prompt", "num_virtual_tokens": 4}
"""Virtual tokens change the answers from the start, so the base is another model than the one that begins."""


@pytest.mark.parametrize("method", ["lora", "full", PISSA, VIRTUAL], ids=["lora", "full", "pissa", "prompt"])
@pytest.mark.parametrize("kind", ["dpo", "kto"])
def test_the_reference_is_the_base_and_is_read_again(
    objective_recipe: Callable[..., Recipe], kind: str, method: Any
) -> None:
    recipe = objective_recipe(kind, method=method)
    engine, rows, fingerprint = started(recipe)
    made = reference.with_reference(engine, rows, fingerprint, recipe.method)
    flat, _ = with_companions(made)
    assert len(flat) == 2 * len(rows)
    for row, expected in zip(flat, base_scores(recipe, flat), strict=True):
        np.testing.assert_allclose(row.given["reference"], expected, atol=1e-3 if method == PISSA else 1e-4)
    (kept,) = reference.folder().glob("*")
    assert str(kept).startswith(os.environ["XDG_CACHE_HOME"])
    np.testing.assert_array_equal(
        load_numpy(kept)["reference"], np.concatenate([row.given["reference"] for row in flat])
    )
    asked: list[int] = []
    again = reference.with_reference(engine, rows, fingerprint, recipe.method, asked.append)
    assert not asked, "nothing is computed a second time"
    for a, b in zip(with_companions(again)[0], flat, strict=True):
        np.testing.assert_array_equal(a.given["reference"], b.given["reference"])


def test_a_reference_of_other_rows_another_model_or_a_broken_file_is_not_taken(
    objective_recipe: Callable[..., Recipe],
) -> None:
    recipe = objective_recipe("dpo")
    engine, rows, fingerprint = started(recipe)

    def asked(rows: list[Row], model: str) -> int:
        count: list[int] = []
        reference.with_reference(engine, rows, model, recipe.method, count.append)
        return sum(count)

    size = 2 * len(rows)
    assert [asked(rows, fingerprint), asked(rows, fingerprint)] == [size, 0]
    assert asked(rows[::-1], fingerprint) == size
    assert asked(rows[1:], fingerprint) == size - 2
    assert asked(rows, "another") == size
    for path in reference.folder().glob("*"):
        path.write_bytes(path.read_bytes()[:-8])
    assert asked(rows, fingerprint) == size
    assert asked(rows, fingerprint) == 0


def test_only_the_last_read_references_are_kept(
    objective_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "KEPT", 2)
    recipe = objective_recipe("dpo")
    engine, rows, _ = started(recipe)
    path = {
        model: reference.folder() / f"{reference.key(engine, with_companions(rows[:2])[0], model)}.safetensors"
        for model in ("a", "b", "c")
    }
    for time, model in enumerate("ab", 1):
        reference.with_reference(engine, rows[:2], model, recipe.method)
        os.utime(path[model], (time, time))
    reference.with_reference(engine, rows[:2], "a", recipe.method)  # read, so b is the one that was not for longest
    reference.with_reference(engine, rows[:2], "c", recipe.method)
    assert {*reference.folder().iterdir()} == {path["a"], path["c"]}


@pytest.mark.parametrize("fault", ["no folder", "no file"])
def test_where_nothing_can_be_kept_the_reference_is_computed(
    objective_recipe: Callable[..., Recipe], tmp_path: Path, fault: str
) -> None:
    recipe = objective_recipe("dpo")
    engine, rows, fingerprint = started(recipe)
    name = f"{reference.key(engine, with_companions(rows)[0], fingerprint)}.safetensors"
    if fault == "no folder":
        (tmp_path / "cache").write_text("a file where the folder would be")
    else:
        (reference.folder() / f".{name}.{os.getpid()}").mkdir(parents=True)  # where the file would be written
    for _ in range(2):
        asked: list[int] = []
        made = reference.with_reference(engine, rows, fingerprint, recipe.method, asked.append)
        assert sum(asked) == 2 * len(rows)
        assert all("reference" in row.given for row in with_companions(made)[0])


@pytest.mark.parametrize("method", ["lora", "full", VIRTUAL], ids=["lora", "full", "prompt"])
def test_the_frozen_reference_stays_while_the_model_learns(
    objective_recipe: Callable[..., Recipe], method: Any
) -> None:
    recipe = objective_recipe("grpo", method=method, objective={"beta": 0.1})
    engine, prompts, _ = started(recipe)
    off = reference.frozen(engine, recipe.method)
    rows = [Row(np.append(row.ids[:-1], [9, 10, 11]).astype(np.int32), np.arange(len(row) + 2) >= len(row) - 1)
            for row in prompts[:4]]  # fmt: skip
    expected = base_scores(recipe, rows)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in engine.trainable.values():
            parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.1)
    for found, own, scores in zip(off(rows), engine.scores(rows), expected, strict=True):
        np.testing.assert_allclose(found, scores, atol=1e-4)
        assert np.abs(own.numpy() - scores).max() > 0.01
    model = AutoModelForCausalLM.from_pretrained(recipe.model.name, dtype=torch.float32).eval()
    ids = torch.from_numpy(rows[0].ids.astype(np.int64))[None]
    warm = (model(ids).logits[0, :-1] / 0.7).log_softmax(-1).gather(1, ids[0, 1:, None])[-3:, 0].detach()
    with engine.at_temperature(0.7):
        torch.testing.assert_close(off(rows[:1])[0], warm, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["dpo", "ipo", "orpo", "simpo", "cpo", "kto", "reward"])
def test_preferences_are_learnt(objective_recipe: Callable[..., Recipe], kind: str) -> None:
    loss = {"loss": "ipo"} if kind == "ipo" else {}
    kind_of = "dpo" if kind == "ipo" else kind
    recipe = objective_recipe(kind_of, objective=loss, validation=0.4, train={"max_steps": 12})
    done = run(recipe, quiet=True)
    before, after = done.summary["before"], done.summary["after"]
    assert after["loss"] < before["loss"]
    if kind == "kto":
        assert after["reward_good"] > after["reward_bad"]
        assert [before["reward_good"], before["reward_bad"]] == pytest.approx([0.0, 0.0], abs=1e-5)
    else:
        assert after["accuracy"] == 1.0
        assert after["margin"] > before["margin"]
    assert ("perplexity" in after) == (kind != "reward")
    if kind in ("dpo", "ipo"):
        assert before["margin"] == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "data", "fault"),
    [
        ("dpo", None, "evaluate.data: the rows that dpo holds out have no answers"),
        ("grpo", None, "evaluate.data: the rows that grpo holds out have no answers"),
        ("reward", "rows.jsonl", "evaluate: a reward model gives no answers"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_anything_is_made(
    objective_recipe: Callable[..., Recipe], tmp_path: Path, kind: str, data: str | None, fault: str
) -> None:
    wanted = {"metrics": ["exact_match"], "data": data}
    with pytest.raises(RecipeError, match=fault):
        api.run(objective_recipe(kind, evaluate=wanted), quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_policy_is_evaluated_on_rows_with_answers(objective_recipe: Callable[..., Recipe], rows: Path) -> None:
    wanted = {"metrics": ["exact_match", "perplexity"], "data": f"{rows}#4", "max_new_tokens": 3}
    for kind in ("dpo", "ppo"):
        done = api.run(objective_recipe(kind, kind, evaluate=wanted, train={"max_steps": 1}), quiet=True)
        assert done.summary["evaluation"]["rows"] == 4
        assert done.summary["evaluation"]["after"]["perplexity"]["value"] > 1


@pytest.mark.parametrize("method", ["prompt", "prefix", "p_tuning"])
def test_a_reward_model_of_virtual_tokens_is_refused(
    objective_recipe: Callable[..., Recipe], tmp_path: Path, method: str
) -> None:
    with pytest.raises(RecipeError, match=f"method.kind: method {method} .*no head for rewards"):
        run(objective_recipe("reward", method={"kind": method, "num_virtual_tokens": 4}), quiet=True)
    assert not (tmp_path / "run").exists()


def test_adalora_is_told_of_every_update_of_a_step(objective_recipe: Callable[..., Recipe]) -> None:
    """Else its budget would end with the first few steps: 4 steps, 3 times in 2 parts."""
    part = {"num_iterations": 3, "minibatches": 2}
    engine, _, _ = started(objective_recipe("ppo", method="adalora", objective=part))
    assert engine.language_model.model.peft_config["default"].total_step == 24
    engine, _, _ = started(objective_recipe("dpo", method="adalora"))
    assert engine.language_model.model.peft_config["default"].total_step == 4
