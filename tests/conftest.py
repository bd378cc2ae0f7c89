"""A model of a few thousand random weights with a real tokenizer, and the runs that training would make of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before anything imports huggingface_hub

import pytest

TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
    {{- '<|' + message.role + '|>' + message.content + '<|end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>' }}
{%- endif %}"""
SPECIAL = ["<s>", "</s>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Callable[[], Any]:
    """Makes a byte-level BPE tokenizer of 288 tokens, with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=288, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(
        ["the cat sat on the mat, and the dog lay on the rug; then they all went home"], trainer
    )
    text = tokenizer.to_str()

    def make() -> Any:
        return PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(text), bos_token="<s>", eos_token="</s>", chat_template=TEMPLATE
        )

    return make


@pytest.fixture(scope="session")
def tiny_model(tiny_tokenizer: Callable[[], Any]) -> Callable[..., Any]:
    """Makes a Llama with random weights for it; keywords go to its config."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(1)  # so small that a second thread only waits

    def make(seed: int = 0, **settings: Any) -> Any:
        torch.manual_seed(seed)
        config = {
            "vocab_size": 288, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
            "initializer_range": 0.3, "bos_token_id": 0, "eos_token_id": 1, "tie_word_embeddings": False,
        }  # fmt: skip
        return LlamaForCausalLM(LlamaConfig(**{**config, **settings})).eval()

    return make


@pytest.fixture
def model_folder(tmp_path: Path, tiny_model: Callable[..., Any], tiny_tokenizer: Callable[[], Any]) -> Path:
    """A model's folder: config.json, model.safetensors and the tokenizer's files."""
    folder = tmp_path / "tiny"
    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def lora_run(tmp_path: Path, model_folder: Path, tiny_tokenizer: Callable[[], Any]) -> Path:
    """A finished run of LoRA: recipe.yaml, and adapter/ with weights that change the answers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(model_folder)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    run = _run(tmp_path / "lora-run", model_folder)
    get_peft_model(base, config).save_pretrained(run / "adapter")
    tiny_tokenizer().save_pretrained(run / "adapter")
    return run


@pytest.fixture
def full_run(tmp_path: Path, model_folder: Path, tiny_model: Callable[..., Any], tiny_tokenizer: Any) -> Path:
    """A finished run of full fine-tuning: recipe.yaml and model/ with other weights than the base."""
    run = _run(tmp_path / "full-run", model_folder)
    tiny_model(seed=1).save_pretrained(run / "model")
    tiny_tokenizer().save_pretrained(run / "model")
    return run


def _run(folder: Path, model: Path) -> Path:
    from whet.recipe import check_recipe, recipe_yaml

    folder.mkdir()
    recipe = check_recipe({"model": {"name": str(model), "dtype": "float32"}, "data": "train.jsonl"}, "test")
    (folder / "recipe.yaml").write_text(recipe_yaml(recipe))
    return folder
