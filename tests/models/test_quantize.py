"""Bases in few bits: what they hold, that packs still equal rows, and that methods train on top."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from whet.models.load import load
from whet.models.probe import probe
from whet.recipe import ModelPart, check_recipe
from whet.train.run import run

bitsandbytes = pytest.importorskip("bitsandbytes", reason="model.quantize needs bitsandbytes")


def quantized(folder: Path, kind: str) -> Any:
    return load(ModelPart(name=str(folder), quantize=kind, dtype="float32")).model  # type: ignore[arg-type]


@pytest.fixture
def model_folder(model_folder: Path, tiny_model: Any) -> Path:
    """Wide enough for 4 bits: its layers take 64 or 128 inputs, and one 96."""
    tiny_model(hidden_size=64, intermediate_size=96, num_attention_heads=2).save_pretrained(model_folder)
    return model_folder


@pytest.mark.parametrize(("kind", "close"), [("nf4", 0.153), ("int8", 0.005)])
def test_weights_are_near_and_the_head_is_whole(model_folder: Path, kind: str, close: float) -> None:
    """Against the dense weights: half of NF4's widest gap is 0.152 of a block's largest value, of int8's 1 / 254."""
    from bitsandbytes.functional import dequantize_4bit, int8_vectorwise_dequant

    dense = load(ModelPart(name=str(model_folder), dtype="float32")).model
    model = quantized(model_folder, kind)
    assert torch.equal(model.lm_head.weight, dense.lm_head.weight)
    kinds = {name.rsplit(".", 1)[-1]: type(module).__name__ for name, module in model.named_modules()}
    assert kinds["q_proj"] == {"nf4": "Linear4bit", "int8": "Linear8bitLt"}[kind]
    assert kinds["down_proj"] == {"nf4": "Linear", "int8": "Linear8bitLt"}[kind], "96 inputs are no blocks of 64"
    for name, module in model.named_modules():
        if type(module).__name__ not in ("Linear4bit", "Linear8bitLt"):
            continue
        whole = dense.get_submodule(name).weight
        weight = module.weight
        wide = (
            dequantize_4bit(weight, weight.quant_state)
            if kind == "nf4"
            else int8_vectorwise_dequant(weight.data, weight.SCB)
        )
        assert float((wide - whole).abs().max()) <= close * float(whole.abs().max()), name


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_packs_equal_rows(model_folder: Path, kind: str) -> None:
    probed = probe(quantized(model_folder, kind), 60)
    assert probed.path == "trie"
    assert probed.difference < 1e-4


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_answers_leave_the_weights_as_they_lie(model_folder: Path, kind: str) -> None:
    model = quantized(model_folder, kind).eval()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        first = model(ids).logits
    model.train()
    assert torch.equal(model(ids).logits, first)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
@pytest.mark.parametrize("method", ["lora", "prefix", "ia3"])
def test_a_run_on_a_quantized_base(model_folder: Path, rows: Path, tmp_path: Path, method: str, quantize: str) -> None:
    from whet.models.saved import open_run

    settings: dict[str, Any] = {
        "model": {"name": str(model_folder), "quantize": quantize, "dtype": "float32"}, "data": str(rows),
        "validation": 0.2, "method": method, "samples": 1, "output": str(tmp_path / "run"),
        "train": {"max_steps": 8, "batch_size": 8, "learning_rate": 3e-2, "max_length": 64},
    }  # fmt: skip
    done = run(check_recipe(settings, "test"), quiet=True)
    assert done.summary["after"]["loss"] < done.summary["before"]["loss"]
    again = open_run(done.folder)
    ids = torch.arange(3, 30)[None]
    with torch.no_grad():
        assert torch.allclose(again.model(ids).logits, done.model.eval()(ids).logits, atol=1e-5)
