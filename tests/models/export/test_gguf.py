"""GGUF files: transformers' own reader of them makes the same model, and what is broken is caught."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from whet.errors import MissingExtra, ModelError, RunError
from whet.models.export import gguf_file, gguf_models, llama_cpp
from whet.models.export.formats import export
from whet.models.load import load
from whet.recipe import check_recipe, recipe_yaml

gguf = pytest.importorskip("gguf")

IDS_1L = torch.tensor([[0, 9, 20, 31, 44, 5, 60, 61, 62, 63, 64, 7, 8, 9, 10, 11, 12, 13, 14, 15]])
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS_1L).logits  # type: ignore[no-any-return]


def close(found: torch.Tensor, expected: torch.Tensor, relative: float = 1e-5) -> bool:
    return float((found - expected).abs().max() / expected.abs().max()) <= relative


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "gpt2"])
def test_transformers_reads_the_same_model(kind: str, random_model: Callable[..., Path], tmp_path: Path) -> None:
    """Its reader (`gguf_file=`) is another's work on llama.cpp's own files: names, order of rows, shifted norms."""
    unbiased = {"attention_bias": False} if kind == "llama" else {}  # a bias of q and k is not turned back there
    folder = random_model(kind, **unbiased)
    done = export(folder, to="gguf", out=tmp_path / "out", gguf_type="f32")
    # The config is given: of some it takes few settings out of the file. Those are checked against llama.cpp in bench/.
    config = AutoConfig.from_pretrained(folder)
    read = AutoModelForCausalLM.from_pretrained(
        done.folder, gguf_file="model-f32.gguf", config=config, dtype=torch.float32
    )
    assert close(logits(read), logits(load(str(folder), torch.float32).model))


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma"])
def test_models_that_transformers_does_not_read(kind: str, random_model: Any, tmp_path: Path) -> None:
    done = export(random_model(kind), to="gguf", out=tmp_path / "out", gguf_type="f32")
    found = {check.name: check.figure for check in done.checks}
    assert found["greedy tokens"] == "5 of 5 prompts x 32 equal"


def test_whet_tiny(tmp_path: Path) -> None:
    done = export("whet-tiny", to="gguf", out=tmp_path / "tiny")
    reader = gguf.GGUFReader(done.folder / "model-f16.gguf")
    say = {name: field.contents() for name, field in reader.fields.items()}
    assert say["general.architecture"] == "llama"
    assert (say["tokenizer.ggml.model"], say["tokenizer.ggml.pre"]) == ("gpt2", "smollm")
    assert (say["tokenizer.ggml.eos_token_id"], say["tokenizer.ggml.eot_token_id"]) == (0, 2)
    assert len(say["tokenizer.ggml.tokens"]) == say["llama.vocab_size"] == 4096
    assert "output.weight" not in {tensor.name for tensor in reader.tensors}


def test_a_lora_run(lora_run: Path) -> None:
    """The tiny tokenizer's byte-level BPE is GPT-2's."""
    done = export(lora_run, to="gguf", gguf_type="f32")
    assert done.folder == lora_run / "export-gguf"
    assert done.next == f"llama-cli -m {lora_run / 'export-gguf' / 'model-f32.gguf'}"
    assert gguf_file.read(done.folder / "model-f32.gguf").vocabulary.pre == "gpt-2"


def test_types(random_model: Callable[..., Path], tmp_path: Path) -> None:
    folder = random_model("qwen3", intermediate_size=80)
    weight = load(str(folder), torch.float32).model.model.layers[0].self_attn.q_proj.weight.detach().numpy()
    expected = {"f16": weight.astype(np.float16), "bf16": torch.tensor(weight).bfloat16().float().numpy()}
    for kind in ("f16", "bf16", "q8_0"):
        file = gguf_file.read(
            export(folder, to="gguf", out=tmp_path / kind, gguf_type=kind).folder / f"model-{kind}.gguf"
        )
        found = file.tensor("blk.0.attn_q.weight")
        assert file.kind("blk.0.attn_q.weight") == kind
        assert file.kind("output_norm.weight") == "f32"
        assert file.kind("blk.0.ffn_down.weight") == ("f16" if kind == "q8_0" else kind)  # rows of 80 = 2.5 x 32
        if kind in expected:
            assert np.array_equal(found, expected[kind])
        else:
            step = np.abs(weight.reshape(-1, 32)).max(1) / 127
            assert (np.abs(found - weight).reshape(-1, 32).max(1) <= 0.57 * step).all()


def test_the_order_of_rotary_halves() -> None:
    rows = torch.arange(8.0)[:, None]  # two heads of four: x1 x2 y1 y2
    config = AutoConfig.for_model("llama", num_attention_heads=2, num_key_value_heads=2)
    array = gguf_models.laid_out("model.layers.0.self_attn.q_proj.weight", rows, config)
    assert array[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert torch.equal(gguf_models.laid_back("model.layers.0.self_attn.q_proj.weight", array, config), rows)


def test_factors_of_long_contexts_are_those_of_transformers() -> None:
    config = AutoConfig.for_model("llama", head_dim=64, max_position_embeddings=512, rope_parameters=LLAMA3)
    stretched, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = 1.0 / 5e5 ** (torch.arange(0, 64, 2) / 64)
    factors = gguf_models.rope_factors(config)
    assert factors is not None
    assert np.allclose(factors, (plain / stretched).numpy(), rtol=1e-5)
    assert factors.min() == 1
    assert factors.max() == 8


# Breaks --------------------------------------------------------------------------------------------------------------


def written_otherwise(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """The file says of its tokenizer what it should not."""
    write = gguf_file.write

    def other(path: Path, model: Any, vocabulary: Any, *rest: Any) -> None:
        made = {key: value(getattr(vocabulary, key)) for key, value in changes.items()}
        write(path, model, dataclasses.replace(vocabulary, **made), *rest)

    monkeypatch.setattr(gguf_file, "write", other)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"template": lambda text: text.replace("user", "human") + "x"}, "chat template: expected "),
        ({"stops": lambda stops: stops[:1]}, r"stop tokens: expected \['1 </s>', '2 <\|end\|>'\], found \['1 </s>'\]"),
        ({"merges": lambda merges: merges[:3]}, r"tokens of chats, from the \d+\. on"),
        ({"add_bos": lambda _: True}, r"tokens of texts, from the 1\. on"),
        ({"types": lambda types: [4 if kind == 3 else 1 for kind in types][:2] + [1] * 286}, "tokens of chats"),
    ],
    ids=["template", "stop", "merges", "bos", "control"],
)
def test_a_tokenizer_that_is_off(
    changes: Any, words: str, lora_run: Path, monkeypatch: pytest.MonkeyPatch, nothing_left: Path
) -> None:
    written_otherwise(monkeypatch, **changes)
    with pytest.raises(RunError, match=words):
        export(lora_run, to="gguf", out=nothing_left)


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "q8_0"])
def test_a_weight_that_is_off_by_one_bit(
    kind: str, lora_run: Path, monkeypatch: pytest.MonkeyPatch, nothing_left: Path
) -> None:
    laid_out = gguf_models.laid_out

    def off(name: str, weight: torch.Tensor, config: Any) -> np.ndarray:
        array = laid_out(name, weight, config)
        if name == "model.layers.1.self_attn.k_proj.weight":
            array = array.copy()
            array[3, 5] *= 2  # the exponent's lowest bit
        return array

    monkeypatch.setattr(gguf_file, "laid_out", off)
    with pytest.raises(RunError, match=r"weight model\.layers\.1\.self_attn\.k_proj\.weight at \[3, \d+\] of its"):
        export(lora_run, to="gguf", out=nothing_left, gguf_type=kind)


@pytest.mark.parametrize(("key", "value"), [("rope.freq_base", 5e4), ("attention.layer_norm_rms_epsilon", 1e-2)])
def test_a_setting_that_is_off(
    key: str, value: float, lora_run: Path, monkeypatch: pytest.MonkeyPatch, nothing_left: Path
) -> None:
    monkeypatch.setattr(gguf_file, "settings_of", lambda config: gguf_models.settings_of(config) | {key: value})
    with pytest.raises(RunError, match=r"logits at prompt \d"):
        export(lora_run, to="gguf", out=nothing_left, gguf_type="f32")


def test_rows_that_were_cut_and_a_head_that_was_lost(
    full_run: Path, monkeypatch: pytest.MonkeyPatch, nothing_left: Path
) -> None:
    read = gguf_file.read

    def without(*names: str) -> Callable[[Path], gguf_file.File]:
        def cut(path: Path) -> gguf_file.File:
            file = read(path)
            return dataclasses.replace(file, tensors={k: v for k, v in file.tensors.items() if k not in names})

        return cut

    monkeypatch.setattr(gguf_file, "read", without("output.weight"))
    with pytest.raises(RunError, match="embeddings and head: expected 'two matrices', found 'tied'"):
        export(full_run, to="gguf", out=nothing_left)
    monkeypatch.setattr(gguf_file, "read", without("blk.1.ffn_up.weight"))
    with pytest.raises(RunError, match=r"weight model\.layers\.1\.mlp\.up_proj\.weight: .* no such tensor in the file"):
        export(full_run, to="gguf", out=nothing_left)

    def cut_short(path: Path) -> gguf_file.File:
        path.write_bytes(path.read_bytes()[:5000])
        return read(path)

    monkeypatch.setattr(gguf_file, "read", cut_short)
    with pytest.raises(RunError, match="opening the file: expected GGUF, found not a GGUF file"):
        export(full_run, to="gguf", out=nothing_left)


# Refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("granite", {}, "GGUF of 'granite' is not known"),
        ("llama", {"hidden_act": "gelu"}, "no place for activation = gelu"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
            "rope_type = dynamic",
        ),
        ("gemma", {"tie_word_embeddings": False}, "tie_word_embeddings = False"),
        ("gemma2", {"query_pre_attn_scalar": 99}, "query_pre_attn_scalar = 99"),
        ("gemma2", {"layer_types": ["full_attention"] * 6}, "layer_types"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scaling of attention"),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(
    kind: str, settings: Any, words: str, random_model: Any, nothing_left: Path
) -> None:
    folder = random_model(kind, **settings)
    (folder / "model.safetensors").unlink()  # said before anything is loaded
    with pytest.raises(ModelError, match=words) as caught:
        export(folder, to="gguf", out=nothing_left)
    assert "--to hf" in str(caught.value.do)


def test_a_window_that_llama_cpp_lacks_shortens_the_context(random_model: Any, tmp_path: Path) -> None:
    done = export(random_model("mistral", sliding_window=100), to="gguf", out=tmp_path / "out")
    assert done.notes == ["contexts are cut to 100 tokens: llama.cpp's llama has no sliding window"]
    assert gguf_file.read(done.folder / "model-f16.gguf").settings["context_length"] == 100


def test_without_the_package(lora_run: Path, monkeypatch: pytest.MonkeyPatch, nothing_left: Path) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingExtra, match="pip install 'whet"):
        export(lora_run, to="gguf", out=nothing_left)


def test_a_run_of_an_unknown_architecture(tmp_path: Path, random_model: Any, nothing_left: Path) -> None:
    folder = random_model("granite")
    run = tmp_path / "run"
    run.mkdir()
    recipe = check_recipe({"model": {"name": str(folder)}, "data": "a.jsonl"}, "test")
    (run / "recipe.yaml").write_text(recipe_yaml(recipe))
    (run / "adapter").mkdir()
    (run / "adapter" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(ModelError, match="known are llama, mistral, qwen2, qwen3, gemma, gemma2, gemma3_text, gpt2"):
        export(run, to="ollama", out=nothing_left)


def test_every_known_architecture_is_one_of_ggufs() -> None:
    names = set(gguf.MODEL_ARCH_NAMES.values())
    assert {known.name for known in gguf_models.ARCHITECTURES.values()} <= names
    assert llama_cpp._PRECISION.keys() == {"f32", "f16", "bf16", "q8_0"}
