"""Folders for transformers, peft and vLLM: what others load answers as the run does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, PrefixTuningConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from whet.errors import RecipeError, RunError
from whet.methods import METHODS, Given
from whet.models.export.formats import export
from whet.models.load import load
from whet.recipe import check_recipe, recipe_yaml

IDS_1L = torch.tensor([[0, 9, 20, 31, 44, 5]])


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS_1L).logits  # type: ignore[no-any-return]


def adapter_run(folder: Path, model: Path, tokenizer: Any, method: dict[str, Any], config: Any) -> Path:
    """A finished run with an adapter of random weights."""
    torch.manual_seed(2)
    recipe = check_recipe(
        {"model": {"name": str(model), "dtype": "float32"}, "data": "a.jsonl", "method": method}, "test"
    )
    folder.mkdir()
    (folder / "recipe.yaml").write_text(recipe_yaml(recipe))
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(model), config)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    adapted.save_pretrained(folder / "adapter", save_embedding_layers=False)
    tokenizer.save_pretrained(folder / "adapter")
    return folder


def test_a_merged_run_is_pefts_own_reading_of_it(lora_run: Path, model_folder: Path, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    expected = logits(PeftModel.from_pretrained(base, lora_run / "adapter"))
    done = export(lora_run, out=tmp_path / "hf")
    found = logits(AutoModelForCausalLM.from_pretrained(done.folder))
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    assert done.next == f"whet chat {tmp_path / 'hf'}"
    assert sorted(path.name for path in done.folder.parent.iterdir() if path.name.startswith(".")) == []


def test_what_stops_an_answer_is_in_the_folder(lora_run: Path) -> None:
    folder = export(lora_run).folder
    assert folder == lora_run / "export-hf"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    stops = GenerationConfig.from_pretrained(folder).eos_token_id
    assert tokenizer.convert_ids_to_tokens(stops) == ["</s>", "<|end|>"]
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(lora_run / "adapter").chat_template


def test_settings_of_sampling_are_kept(full_run: Path) -> None:
    old = {"temperature": 0.6, "top_p": 0.9, "eos_token_id": 1}  # as older models have it, without do_sample
    (full_run / "model" / "generation_config.json").write_text(json.dumps(old))
    kept = GenerationConfig.from_pretrained(export(full_run).folder)
    assert (kept.temperature, kept.top_p, kept.do_sample, kept.eos_token_id) == (0.6, 0.9, True, [1, 2])


def test_a_full_run_is_copied(full_run: Path, tmp_path: Path) -> None:
    before = load_file(full_run / "model" / "model.safetensors")
    after = load_file(export(full_run, out=tmp_path / "hf").folder / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_dtype_rounds_every_weight_once(lora_run: Path, tmp_path: Path) -> None:
    exact = load_file(export(lora_run, out=tmp_path / "a", dtype="float32").folder / "model.safetensors")
    short = load_file(export(lora_run, out=tmp_path / "b", dtype="bfloat16").folder / "model.safetensors")
    assert all(torch.equal(short[name], exact[name].bfloat16()) for name in exact)


def test_auto_is_the_dtype_of_the_base(lora_run: Path, model_folder: Path, tiny_model: Any) -> None:
    tiny_model().bfloat16().save_pretrained(model_folder)
    assert json.loads((export(lora_run).folder / "config.json").read_text())["dtype"] == "bfloat16"


def test_peft_loads_an_adapter_on_its_base(lora_run: Path, model_folder: Path) -> None:
    done = export(lora_run, to="peft")
    base = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    expected = logits(PeftModel.from_pretrained(base, lora_run / "adapter"))
    again = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    assert torch.equal(logits(PeftModel.from_pretrained(again, done.folder)), expected)
    assert AutoTokenizer.from_pretrained(done.folder)("the cat").input_ids
    assert f"from_pretrained('{model_folder}')" in done.next


def test_the_line_for_peft_resizes_a_base_without_the_new_tokens(
    model_folder: Path, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    new = ["<finding>", "HbA1c"]
    tree = {"model": {"name": str(model_folder), "dtype": "float32", "new_tokens": new}, "data": "a.jsonl"}
    recipe = check_recipe(tree, "test")
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text(recipe_yaml(recipe))
    base = load(recipe.model)
    ids = tuple(base.tokenizer.convert_tokens_to_ids(new))
    adapted = METHODS["lora"].apply(base.model, recipe.method, Given(base.tokenizer, new_token_ids=ids))
    METHODS["lora"].save(adapted, run / "adapter")
    base.tokenizer.save_pretrained(run / "adapter")
    with torch.no_grad():
        expected = adapted.eval()(torch.tensor([[9, 20, *ids]])).logits

    done = export(run, to="peft")
    told: dict[str, Any] = {"PeftModel": PeftModel, "AutoModelForCausalLM": AutoModelForCausalLM}
    exec(done.next, told)
    with torch.no_grad():
        found = told["model"](torch.tensor([[9, 20, *ids]])).logits
    assert torch.allclose(found, expected, atol=1e-5)
    assert "resize it to" in done.notes[-1]


def test_a_prefix_can_go_to_peft_and_nowhere_else(
    model_folder: Path, tiny_tokenizer: Any, tmp_path: Path, nothing_left: Path
) -> None:
    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    run = adapter_run(tmp_path / "prefix-run", model_folder, tiny_tokenizer(), {"kind": "prefix"}, config)
    done = export(run, to="peft")
    assert [check.name for check in done.checks][-2:] == ["logits", "greedy tokens"]
    for to in ("hf", "gguf", "ollama", "vllm"):
        with pytest.raises(RunError, match=f"prefix cannot be merged .* exported to {to}") as caught:
            export(run, to=to, out=nothing_left)
        assert "--to peft" in str(caught.value.do)


@pytest.mark.parametrize("where", ["embed_tokens", "lm_head"])
def test_a_head_that_parts_from_its_embeddings(
    where: str, tiny_model: Any, model_folder: Path, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    """LoRA on one of two tied matrices: merged into the shared one it would change both."""
    tiny_model(tie_word_embeddings=True).save_pretrained(model_folder)
    config = LoraConfig(r=2, target_modules=[where, "q_proj"], task_type="CAUSAL_LM")
    run = adapter_run(tmp_path / "run", model_folder, tiny_tokenizer(), {"kind": "lora"}, config)
    base = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    expected = logits(PeftModel.from_pretrained(base, run / "adapter"))
    folder = export(run).folder
    opened = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.allclose(logits(opened), expected, atol=1e-5 * float(expected.abs().max()))
    assert opened.lm_head.weight is not opened.model.embed_tokens.weight
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] is False


def test_new_tokens_stay_tied(tiny_model: Any, model_folder: Path, tiny_tokenizer: Any, tmp_path: Path) -> None:
    tiny_model(tie_word_embeddings=True).save_pretrained(model_folder)
    config = LoraConfig(r=2, target_modules=["q_proj"], trainable_token_indices=[7, 8], task_type="CAUSAL_LM")
    run = adapter_run(tmp_path / "run", model_folder, tiny_tokenizer(), {"kind": "lora"}, config)
    opened = AutoModelForCausalLM.from_pretrained(export(run).folder)
    assert opened.lm_head.weight is opened.model.embed_tokens.weight
    base = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    assert not torch.equal(opened.lm_head.weight[7], base.lm_head.weight[7])
    assert torch.equal(opened.lm_head.weight[9], base.lm_head.weight[9])


@pytest.mark.parametrize("kind", [kind for kind, method in METHODS.items() if method.merge is not None])
def test_every_method_that_merges(kind: str, model_folder: Path, tiny_tokenizer: Any, tmp_path: Path) -> None:
    part = {"kind": kind} | {"trainable_tokens": {"token_indices": [5, 6]}, "oft": {"oft_block_size": 4}}.get(kind, {})
    if kind == "boft":
        part |= {"boft_block_size": 4}
    recipe = check_recipe(
        {"model": {"name": str(model_folder), "dtype": "float32"}, "data": "a.jsonl", "method": part}, "test"
    )
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text(recipe_yaml(recipe))
    torch.manual_seed(3)
    base = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    adapted = METHODS[kind].apply(base, recipe.method, Given(tiny_tokenizer(), total_steps=100))
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    METHODS[kind].save(adapted, run / "adapter")
    tiny_tokenizer().save_pretrained(run / "adapter")
    expected = logits(adapted.eval())
    found = logits(AutoModelForCausalLM.from_pretrained(export(run).folder))
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))


def test_vllm(lora_run: Path, model_folder: Path, tmp_path: Path) -> None:
    done = export(lora_run, to="vllm", out=tmp_path / "merged")
    assert done.next == f"vllm serve {tmp_path / 'merged'}"
    assert (done.folder / "model.safetensors").is_file()
    beside = export(lora_run, to="vllm", out=tmp_path / "beside", merge=False)
    assert not (beside.folder / "model.safetensors").exists()
    assert beside.next == (
        f"vllm serve {model_folder} --enable-lora --max-lora-rank 8 --lora-modules lora-run={tmp_path / 'beside'}"
        f" --chat-template {tmp_path / 'beside' / 'chat_template.jinja'}"
    )
    config = lora_run / "adapter" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"use_dora": True}))
    with pytest.raises(RunError, match="vLLM cannot serve use_dora of a LoRA beside its base"):
        export(lora_run, to="vllm", out=tmp_path / "dora", merge=False)


def test_what_cannot_be_is_said_before_anything_is_loaded(
    lora_run: Path, full_run: Path, model_folder: Path, nothing_left: Path
) -> None:
    (model_folder / "model.safetensors").unlink()
    wishes: list[tuple[Path, dict[str, Any], type[Exception], str]] = [
        (full_run, {"to": "peft"}, RunError, "a whole model, without an adapter"),
        (full_run, {"to": "vllm", "merge": False}, RunError, "a whole model, without an adapter"),
        (lora_run, {"to": "peft", "dtype": "float32"}, RecipeError, "--dtype is of hf and merged vllm"),
        (lora_run, {"to": "hf", "gguf_type": "f16"}, RecipeError, "--gguf-type is of gguf and ollama"),
        (lora_run, {"to": "gguf", "merge": False}, RecipeError, "--no-merge is of vllm"),
    ]
    for run, wish, kind, words in wishes:
        with pytest.raises(kind, match=words):
            export(run, out=nothing_left, **wish)


def test_a_folder_that_holds_something_is_left_alone(lora_run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="it is not empty") as caught:
        export(lora_run, out=tmp_path / "mine")
    assert caught.value.where == f"--out {tmp_path / 'mine'}"
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_a_run_that_is_not_finished(lora_run: Path, nothing_left: Path) -> None:
    (lora_run / "adapter" / "adapter_config.json").unlink()
    with pytest.raises(RunError, match="the run has made nothing yet"):
        export(lora_run, out=nothing_left)


def test_a_plain_model_is_exported_too(model_folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert export(model_folder).folder == Path("tiny-hf")
    with pytest.raises(RunError, match="a whole model"):
        export(model_folder, to="peft")
