"""Models and runs to export, and files that are broken between writing and reading back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

SETTINGS: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 256, "bos_token_id": 0, "eos_token_id": 1,
    "pad_token_id": 1,
}  # fmt: skip
SLIDING = {"sliding_window": 16, "query_pre_attn_scalar": 16}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "mlp_bias": False},
    "mistral": {"sliding_window": None},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {},
    "gemma": {},
    "gemma2": SLIDING,
    "gemma3_text": SLIDING,
    "gpt2": {},
}


@pytest.fixture
def random_model(tmp_path: Path, tiny_tokenizer: Callable[[], Any]) -> Callable[..., Path]:
    """random_model("qwen3", **settings): the folder of a model with random weights and the tiny tokenizer."""
    from transformers import AutoConfig, AutoModelForCausalLM

    def make(kind: str, **settings: Any) -> Path:
        torch.manual_seed(0)
        config = AutoConfig.for_model(kind, **(SETTINGS | KINDS.get(kind, {}) | settings))
        model = AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)  # biases and gains too: a part that is zero hides its faults
        folder = tmp_path / kind
        model.save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)
        return folder

    return make


@pytest.fixture
def nothing_left(tmp_path: Path) -> Iterator[Path]:
    """A folder to export to, which must not be there in the end, nor anything beside it that was not."""
    out = tmp_path / "exports" / "out"
    yield out
    assert not out.parent.exists()
