"""Opening what training left: the adapter on its base, the whole model, and what is not a result."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from whet.errors import ModelError, RecipeError, RunError
from whet.models.saved import open_run, open_sides

IDS_1L = torch.tensor([[0, 9, 20, 31]])


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS_1L).logits  # type: ignore[no-any-return]


def test_a_lora_run_is_pefts_own_reading_of_it(lora_run: Path, model_folder: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    expected_base = logits(base)
    expected = logits(PeftModel.from_pretrained(base, lora_run / "adapter"))
    loaded = open_run(lora_run)
    assert torch.equal(logits(loaded.model), expected)
    assert not torch.allclose(expected, expected_base)
    assert loaded.name == str(lora_run)
    assert not loaded.model.training
    with loaded.model.disable_adapter():
        assert torch.equal(logits(loaded.model), expected_base)
    assert torch.equal(logits(open_run(lora_run, base=True).model), expected_base)


def test_a_full_run(full_run: Path, tiny_model: Callable[..., Any]) -> None:
    loaded = open_run(str(full_run))
    assert torch.equal(logits(loaded.model), logits(tiny_model(seed=1)))
    assert loaded.name == str(full_run)
    assert torch.equal(logits(open_run(full_run, base=True).model), logits(tiny_model(seed=0)))


def test_the_runs_tokenizer_is_used_for_both(lora_run: Path, tiny_tokenizer: Callable[[], Any]) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ messages[0].content }}"
    tokenizer.save_pretrained(lora_run / "adapter")
    for base in (False, True):
        assert open_run(lora_run, base=base).tokenizer.chat_template == "{{ messages[0].content }}"
    for file in [*(lora_run / "adapter").glob("tokenizer*"), lora_run / "adapter" / "chat_template.jinja"]:
        file.unlink()
    assert open_run(lora_run).tokenizer.chat_template == tiny_tokenizer().chat_template


def test_sides(lora_run: Path, full_run: Path) -> None:
    for run in (lora_run, full_run):
        (base, trained), notes = open_sides(run, base=True)
        assert (base.name, trained.name, notes) == ("base", str(run), [])
        with base.answering():
            before = logits(base.model)
        with trained.answering():
            after = logits(trained.model)
        assert torch.equal(before, logits(open_run(run, base=True).model))
        assert torch.equal(after, logits(open_run(run).model))
    assert base.model is not trained.model


def test_a_plain_model_opens_alike_and_has_no_base(model_folder: Path, tiny_model: Callable[..., Any]) -> None:
    assert open_run(model_folder).model.num_parameters() == tiny_model().num_parameters()
    with pytest.raises(RunError, match="a model, not a run") as caught:
        open_sides(model_folder, base=True)
    assert caught.value.do == "leave out --base"


def test_a_run_that_is_not_finished_is_not_opened(lora_run: Path) -> None:
    shutil.rmtree(lora_run / "adapter")
    with pytest.raises(RunError, match="the run has made nothing yet") as caught:
        open_run(lora_run)
    assert (caught.value.where, caught.value.do) == (str(lora_run), f"whet train --resume {lora_run}")
    (lora_run / "checkpoints" / "step-40").mkdir(parents=True)
    with pytest.raises(RunError, match="its last checkpoint is step-40"):
        open_run(lora_run)


def test_a_base_that_is_gone(lora_run: Path, model_folder: Path) -> None:
    model_folder.rename(model_folder.with_name("tinier"))
    with pytest.raises(RunError) as caught:
        open_run(lora_run)
    assert caught.value.where == f"{lora_run / 'recipe.yaml'}: model.name"
    assert (
        f"{model_folder}: no such model folder. Did you mean '{model_folder.with_name('tinier')}'?" in caught.value.what
    )
    assert "correct model.name there" in caught.value.do


def test_a_base_that_does_not_fit(lora_run: Path, model_folder: Path, tiny_model: Callable[..., Any]) -> None:
    tiny_model(hidden_size=16).save_pretrained(model_folder)
    with pytest.raises(RunError, match="size mismatch") as caught:
        open_run(lora_run)
    assert f"the adapter does not fit {model_folder}" in caught.value.what
    assert caught.value.where == str(lora_run / "adapter")


def test_half_an_adapter_is_not_put_on(lora_run: Path) -> None:
    path = lora_run / "adapter" / "adapter_model.safetensors"
    weights = load_file(path)
    first = min(weights)
    save_file({name: tensor for name, tensor in weights.items() if name != first}, path)
    with pytest.raises(RunError, match=f"{first} is only in the model"):
        open_run(lora_run)
    save_file({**weights, "base_model.model.stray.lora_A.weight": torch.zeros(1)}, path)
    with pytest.raises(RunError, match=r"stray\.lora_A\.weight is only in the adapter"):
        open_run(lora_run)


def test_an_adapter_in_a_pickle_is_not_opened(lora_run: Path) -> None:
    path = lora_run / "adapter" / "adapter_model.safetensors"
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()
    with pytest.raises(ModelError, match="only a pickle"):
        open_run(lora_run)


def test_a_broken_recipe_is_named(lora_run: Path) -> None:
    (lora_run / "recipe.yaml").write_text("model: {nam: x}\ndata: a.jsonl\n")
    with pytest.raises(RecipeError, match=r"model\.nam"):
        open_run(lora_run)
    (lora_run / "recipe.yaml").write_text("model: [")
    with pytest.raises(RecipeError, match=r"recipe\.yaml"):
        open_run(lora_run)
    config = lora_run / "adapter" / "adapter_config.json"
    assert json.loads(config.read_text())["task_type"] == "CAUSAL_LM"
