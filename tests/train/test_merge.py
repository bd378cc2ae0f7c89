"""Merged LoRA runs against sums written by hand and peft's own; the run folder that comes of it; what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

import whet
from whet.cli import app
from whet.errors import RecipeError, RunError
from whet.models.saved import open_run, open_sides
from whet.recipe import check_recipe, load_recipe, recipe_yaml
from whet.train.runs import compare, list_runs, read_run

IDS_1L = torch.tensor([[0, 9, 20, 31]])


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(IDS_1L).logits  # type: ignore[no-any-return]


@pytest.fixture
def make_run(tmp_path: Path, model_folder: Path, tiny_tokenizer: Callable[[], Any]) -> Callable[..., Path]:
    """make_run(name, seed, r=4, **settings): a finished LoRA run; settings are peft's."""

    def make(name: str, seed: int, r: int = 4, base: Path = model_folder, **settings: Any) -> Path:
        torch.manual_seed(seed)
        folder = tmp_path / "runs" / name
        given = {"target_modules": "all-linear", "lora_alpha": 6, **settings}
        config = LoraConfig(r=r, init_lora_weights=False, task_type="CAUSAL_LM", **given)
        model = AutoModelForCausalLM.from_pretrained(base)
        get_peft_model(model, config).save_pretrained(folder / "adapter")
        tiny_tokenizer().save_pretrained(folder / "adapter")
        tree = {"model": {"name": str(base), "dtype": "float32"}, "data": f"{name}.jsonl"}
        (folder / "recipe.yaml").write_text(recipe_yaml(check_recipe({**tree, "method": {"r": r}}, "test")))
        return folder

    return make


def change(run: Path) -> dict[str, torch.Tensor]:
    """What a run adds to each weight."""
    adapted = open_run(run).model.merge_and_unload().state_dict()
    base = open_run(run, base=True).model.state_dict()
    return {name: adapted[name] - base[name] for name in base}


@pytest.mark.parametrize("weights", [None, [0.3, -1.2]])
def test_linear_is_the_weighted_sum_of_the_changes(make_run, tmp_path: Path, weights: Any) -> None:
    """Of different ranks, scales and modules."""
    runs = [make_run("a", 0, use_rslora=True), make_run("b", 1, r=6, target_modules=["q_proj", "down_proj"])]
    changes = [change(run) for run in runs]
    folder = whet.merge(runs, weights, output=tmp_path / "runs" / "ab")
    found = change(folder)
    for name, tensor in found.items():
        factors = weights or [0.5, 0.5]
        expected = factors[0] * changes[0][name] + factors[1] * changes[1][name]
        torch.testing.assert_close(tensor, expected, atol=2e-6, rtol=1e-5)
    assert float(found["model.layers.0.mlp.up_proj.weight"].abs().max()) > 0.01
    assert load_recipe(folder / "recipe.yaml").method.r == 10


COMBINATIONS: dict[str, dict[str, Any]] = {
    "svd": {"rank": 5},
    "ties": {"density": 0.5},
    "dare_linear": {"density": 0.5},
    "dare_ties": {"density": 0.7},
    "ties_svd": {"density": 0.5},
    "dare_linear_svd": {"density": 0.5, "rank": 3},
    "dare_ties_svd": {"density": 0.5},
}


@pytest.mark.parametrize("combination", list(COMBINATIONS))
def test_the_others_are_pefts_own(make_run, model_folder: Path, tmp_path: Path, combination: str) -> None:
    runs, settings = [make_run("a", 0), make_run("b", 1)], COMBINATIONS[combination]
    folder = whet.merge(runs, [0.7, 0.6], combination, output=tmp_path / "ab", seed=3, **settings)
    peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_folder), runs[0] / "adapter", "a")
    peft.load_adapter(str(runs[1] / "adapter"), "b")
    torch.manual_seed(3)
    density, rank = settings.get("density"), settings.get("rank")
    peft.add_weighted_adapter(
        ["a", "b"], [0.7, 0.6], "ab", combination_type=combination, density=density, svd_rank=rank
    )
    peft.set_adapter("ab")
    torch.testing.assert_close(logits(open_run(folder).model), logits(peft), atol=1e-5, rtol=0)


def test_svd_of_the_full_rank_is_the_sum(make_run, tmp_path: Path) -> None:
    runs = [make_run("a", 0), make_run("b", 1)]
    exact = whet.merge(runs, output=tmp_path / "exact")
    cut = whet.merge(runs, combination="svd", rank=8, output=tmp_path / "cut")
    torch.testing.assert_close(logits(open_run(cut).model), logits(open_run(exact).model), atol=1e-4, rtol=0)


def test_what_dare_drops_depends_on_the_seed_alone(make_run, tmp_path: Path) -> None:
    runs = [make_run("a", 0), make_run("b", 1)]
    answers = []
    for name, seed in [("one", 1), ("again", 1), ("two", 2)]:
        folder = whet.merge(runs, combination="dare_linear", density=0.5, seed=seed, output=tmp_path / name)
        torch.rand(3)  # what was drawn in between does not matter
        answers.append(logits(open_run(folder).model))
    assert torch.equal(answers[0], answers[1])
    assert not torch.allclose(answers[0], answers[2], atol=1e-3)


def test_it_is_a_run_like_any_other(make_run, model_folder: Path, tmp_path: Path) -> None:
    runs = [make_run("a", 0), make_run("b", 1)]
    folder = whet.merge(runs, [0.7, 0.3], "ties", density=0.5, output=tmp_path / "runs" / "ab")
    run = read_run(folder)
    assert (run.status, run.faults) == ("finished", [])
    assert run.summary is not None
    assert run.summary["merged"] == {
        "runs": [str(run) for run in runs], "weights": [0.7, 0.3], "combination": "ties", "density": 0.5,
    }  # fmt: skip
    (info,) = [info for info in list_runs(tmp_path / "runs") if info.name == "ab"]
    assert (info.model, info.method, info.status) == (str(model_folder), "lora", "finished")
    assert compare([folder, folder]).differences == []
    (base, merged), _ = open_sides(folder, base=True)
    with base.answering():
        assert torch.equal(logits(base.model), logits(open_run(runs[0], base=True).model))
    assert not torch.allclose(logits(merged.model), logits(open_run(runs[0]).model), atol=1e-3)
    assert [part.path for part in load_recipe(folder / "recipe.yaml").data] == ["a.jsonl", "b.jsonl"]
    assert whet.resume(folder).summary["status"] == "finished"
    torch.testing.assert_close(  # peft alone reads it too
        logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_folder), folder / "adapter")),
        logits(merged.model), atol=1e-6, rtol=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"weights": [1.0]}, "weights"),
        ({"weights": [1.0, float("nan")]}, "weights"),
        ({"combination": "tise"}, "combination"),
        ({"combination": "ties"}, "density"),
        ({"combination": "dare_ties", "density": 1.5}, "density"),
        ({"density": 0.5}, "density"),
        ({"rank": 4}, "rank"),
    ],
)
def test_settings_that_do_not_go_together(tmp_path: Path, settings: dict[str, Any], where: str) -> None:
    with pytest.raises(RecipeError) as caught:
        whet.merge(["runs/a", "runs/b"], output=tmp_path / "ab", **settings)
    assert caught.value.where == where
    with pytest.raises(RecipeError, match="two runs or more"):
        whet.merge(["runs/a"], output=tmp_path / "ab")


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"use_dora": True}, r"method\.use_dora"),
        ({"modules_to_save": ["lm_head"], "target_modules": ["q_proj"]}, r"method\.modules_to_save"),
        ({"trainable_token_indices": [3]}, r"method\.trainable_token_indices"),
        ({"layers_to_transform": [0], "target_modules": ["q_proj"]}, r"method\.layers_to_transform is \[0\]"),
        ({"r": 6}, r"ties cannot combine them \(of ranks 4, 6\)"),
        ({"target_modules": r".*q_proj"}, r"ties cannot combine them"),
    ],
)
def test_runs_that_cannot_be_combined(make_run, tmp_path: Path, settings: dict[str, Any], what: str) -> None:
    runs = [make_run("a", 0), make_run("b", 1, **settings)]
    with pytest.raises(RunError, match=what):
        whet.merge(runs, combination="ties", density=0.5, output=tmp_path / "ab")
    assert not (tmp_path / "ab").exists()


def test_an_output_that_is_taken(make_run, tmp_path: Path) -> None:
    runs = [make_run("a", 0), make_run("b", 1)]
    before = {path: path.read_bytes() for path in runs[0].rglob("*") if path.is_file()}
    with pytest.raises(RunError, match="not empty"):
        whet.merge(runs, output=runs[0])
    assert {path: path.read_bytes() for path in runs[0].rglob("*") if path.is_file()} == before


def test_on_the_command_line(make_run, tmp_path: Path) -> None:
    runs = [str(make_run("a", 0)), str(make_run("b", 1))]
    words = ["--weights", ".5,.25", "--combination", "ties", "--density", "0.5", "--output", str(tmp_path / "ab")]
    done = CliRunner().invoke(app, ["merge", *runs, *words])
    assert done.exit_code == 0, done.output
    assert f"{tmp_path / 'ab'}: ties of {runs[0]}, {runs[1]}" in done.output
    assert json.loads((tmp_path / "ab" / "summary.json").read_text())["merged"]["weights"] == [0.5, 0.25]
    wrong = CliRunner().invoke(app, ["merge", *runs, "--weights", "half,half", "--output", str(tmp_path / "c")])
    assert isinstance(wrong.exception, RecipeError)
    assert wrong.exception.where == "--weights"
