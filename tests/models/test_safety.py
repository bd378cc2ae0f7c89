"""Bad model folders, one fault each: what is said, where, and what to do next; and that nothing in them runs."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from whet.errors import ModelError
from whet.models.load import load
from whet.models.safety import check_adapter, check_folder, check_tokenizer
from whet.models.weights import check_safetensors
from whet.recipe import ModelPart

PART = ModelPart()


class Marker:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def edit(path: Path, **changes: Any) -> None:
    tree = json.loads(path.read_text())
    path.write_text(json.dumps({**tree, **changes}))


def refused(folder: Path, part: ModelPart = PART) -> ModelError:
    with pytest.raises(ModelError) as caught:
        check_folder(folder, part)
    assert caught.value.where
    assert str(folder) in caught.value.where
    assert caught.value.do
    return caught.value


def test_a_whole_folder_passes_without_a_word(model_folder: Path) -> None:
    assert check_folder(model_folder, PART) == []


def test_no_config(model_folder: Path, tmp_path: Path) -> None:
    (model_folder / "config.json").unlink()
    assert "no config.json" in refused(model_folder).what
    (model_folder / "inner").mkdir()
    (model_folder / "inner" / "config.json").write_text("{}")
    assert refused(model_folder).do == f"did you mean {model_folder / 'inner'}?"


@pytest.mark.parametrize(
    ("text", "line"), [('{"model_type":\n "llama",\n oops}', ":3"), ("[1, 2]", ""), ("[" * 100_000, ""), ("\x00", ":1")]
)
def test_broken_config(model_folder: Path, text: str, line: str) -> None:
    (model_folder / "config.json").write_text(text)
    assert refused(model_folder).where == f"{model_folder / 'config.json'}{line}"


def test_no_weights(model_folder: Path) -> None:
    (model_folder / "model.safetensors").unlink()
    assert "model.safetensors is missing" in refused(model_folder).what
    (model_folder / "model.gguf").write_bytes(b"GGUF")
    assert "another format (model.gguf)" in refused(model_folder).what


def test_a_pickle_instead_of_weights_is_refused_and_not_opened(model_folder: Path, tmp_path: Path) -> None:
    (model_folder / "model.safetensors").unlink()
    (model_folder / "pytorch_model.bin").write_bytes(pickle.dumps(Marker(tmp_path / "ran")))
    error = refused(model_folder)
    assert "only a pickle (pytorch_model.bin)" in error.what
    assert "save_pretrained" in error.do
    with pytest.raises(ModelError):
        load(str(model_folder))
    assert not (tmp_path / "ran").exists()


def test_a_pickle_beside_weights_is_noted_and_not_opened(model_folder: Path, tmp_path: Path) -> None:
    for name in ("pytorch_model.bin", "training_args.bin", "model.pt"):
        (model_folder / name).write_bytes(pickle.dumps(Marker(tmp_path / "ran")))
    (note,) = load(str(model_folder)).notes
    assert "not opened" in note
    assert "model.pt, pytorch_model.bin, training_args.bin" in note
    assert not (tmp_path / "ran").exists()
    pickle.loads((model_folder / "model.pt").read_bytes())
    assert (tmp_path / "ran").exists(), "the pickle would have run"


def test_a_pickle_called_safetensors(model_folder: Path, tmp_path: Path) -> None:
    (model_folder / "model.safetensors").write_bytes(pickle.dumps(Marker(tmp_path / "ran")))
    assert "not a safetensors file" in refused(model_folder).what
    assert not (tmp_path / "ran").exists()


def test_cut_weights_name_both_sizes(model_folder: Path) -> None:
    path = model_folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1000])
    error = refused(model_folder)
    assert error.where == str(path)
    assert error.what == f"{len(whole) - 1000:,} bytes, and its header promises {len(whole):,}"
    assert "fetch it again" in error.do
    path.write_bytes(whole + b"\0")
    assert f"{len(whole) + 1:,} bytes" in refused(model_folder).what
    for cut in (0, 7, 8, 100):
        path.write_bytes(whole[:cut])
        assert "cut short" in refused(model_folder).what


def test_a_header_that_safetensors_itself_refuses(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for tensor in (
        {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]},
        {"data_offsets": [0, 8]},
        {"dtype": "F32"},
        3,
    ):
        header = json.dumps({"a": tensor}).encode()
        path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 8)
        with pytest.raises(ModelError, match="broken safetensors file"):
            check_safetensors(path)


def test_a_git_lfs_pointer_is_named_as_one(model_folder: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    (model_folder / "model.safetensors").write_text(pointer)
    error = refused(model_folder)
    assert "Git LFS pointer" in error.what
    assert "git lfs pull" in error.do


@pytest.fixture
def sharded(model_folder: Path, tiny_model: Callable[..., Any]) -> Path:
    (model_folder / "model.safetensors").unlink()
    tiny_model().save_pretrained(model_folder, max_shard_size="60KB")
    assert len(list(model_folder.glob("*.safetensors"))) > 1
    return model_folder


def test_shards_are_found_and_missing_ones_counted(sharded: Path) -> None:
    assert check_folder(sharded, PART) == []
    shards = sorted(sharded.glob("*.safetensors"))
    shards[1].unlink()
    assert refused(sharded).what == f"1 of {len(shards)} files of weights are missing, {shards[1].name} first"


@pytest.mark.parametrize(
    "name", ["../other.safetensors", "/etc/passwd", "a\\..\\b.safetensors", "pytorch_model.bin", 7]
)
def test_shards_stay_in_the_folder_and_are_safetensors(sharded: Path, name: Any) -> None:
    index = sharded / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    edit(index, weight_map={**places, "lm_head.weight": name})
    error = refused(sharded)
    assert error.where == str(index)
    assert repr(name) in error.what
    edit(index, weight_map=[])
    assert "not an index" in refused(sharded).what


def test_links_stay_in_the_folder(model_folder: Path, tmp_path: Path) -> None:
    weights = model_folder / "model.safetensors"
    weights.rename(model_folder / "real.safetensors")
    weights.symlink_to("real.safetensors")
    assert check_folder(model_folder, PART) == []
    weights.unlink()
    (model_folder / "real.safetensors").rename(tmp_path / "elsewhere.safetensors")
    weights.symlink_to(tmp_path / "elsewhere.safetensors")
    error = refused(model_folder)
    assert error.where == str(weights)
    assert f"to {tmp_path / 'elsewhere.safetensors'}" in error.what


def test_links_into_the_cache_of_the_hub_are_its_way_of_storing(model_folder: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "c0ffee"
    blobs = tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    model_folder.rename(blobs)
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
    assert check_folder(snapshot, PART) == []


def test_an_adapter_is_not_a_model(model_folder: Path, lora_run: Path) -> None:
    error = refused(lora_run / "adapter")
    assert "an adapter, not a model" in error.what
    assert "run folder" in error.do
    (lora_run / "adapter" / "adapter_config.json").rename(model_folder / "adapter_config.json")
    assert "put it on unasked" in refused(model_folder).what


def test_code_of_an_unknown_type_is_refused(model_folder: Path) -> None:
    edit(model_folder / "config.json", model_type="mine", auto_map={"AutoConfig": "code.Mine"})
    error = refused(model_folder)
    assert error.where == str(model_folder / "config.json")
    assert "`auto_map`" in error.what
    assert "model.trust_remote_code=true" in error.do
    assert check_folder(model_folder, ModelPart(trust_remote_code=True)) == []


def test_code_beside_a_known_type_is_noted_and_does_not_run(model_folder: Path, tmp_path: Path) -> None:
    (model_folder / "code.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\nclass Mine: pass\n")
    edit(model_folder / "config.json", auto_map={"AutoConfig": "code.Mine", "AutoModelForCausalLM": "code.Mine"})
    edit(model_folder / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "code.Mine"]})
    loaded = load(str(model_folder))
    assert type(loaded.model).__module__.startswith("transformers.models.llama")
    assert [note.split(":")[0] for note in loaded.notes] == [
        str(model_folder / "config.json"), str(model_folder / "tokenizer_config.json"),
    ]  # fmt: skip
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("_attn_implementation_internal", "someone/kernels"),  # CVE-2026-4372
        ("attn_implementation", "someone/kernels"),
        ("_attn_implementation", {"": "sdpa", "text_config": "someone/kernels"}),
        ("_experts_implementation", "someone/kernels:fast"),
        ("trust_remote_code", True),  # CVE-2026-5241
        ("use_kernels", True),
        ("custom_generate", "someone/generate"),
        ("custom_pipelines", {"x": {"impl": "code.Pipeline"}}),
        ("transformers_weights", "../other.safetensors"),
        ("fusion_config", {"patch_embeddings": True}),
        ("layer_kernels", {"rms_norm": "someone/kernels"}),
        ("vision_module", "os"),
        ("_hidden", ["someone/repo"]),
        ("weights_url", "https://example.com/x"),
    ],
)
def test_keys_that_can_run_code_are_refused_at_any_depth(model_folder: Path, key: str, value: Any) -> None:
    plain = json.loads((model_folder / "config.json").read_text())
    for path, tree in {
        key: {key: value},
        f"text_config.{key}": {"text_config": {"model_type": "llama", key: value}},
        f"extra.0.{key}": {"extra": [{key: value}]},
    }.items():
        (model_folder / "config.json").write_text(json.dumps({**plain, **tree}))
        error = refused(model_folder)
        assert f"`{path}`" in error.what
        assert repr(value) in error.what
    (model_folder / "config.json").write_text(json.dumps(plain))
    edit(model_folder / "generation_config.json", **{key: value})
    assert refused(model_folder).where == str(model_folder / "generation_config.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("_name_or_path", "meta-llama/Llama-3.2-1B"),
        ("_attn_implementation_autoset", True),
        ("_attn_implementation", "sdpa"),
        ("unsloth_version", "2026.1"),
        ("auto_map", {}),
        ("trust_remote_code", False),
        ("conv_kernel", 4),
        ("task_specific_params", {"text-generation": {"do_sample": True}}),
        ("label2id", {"path": 0, "file": 1}),
        ("quantization_config", None),
    ],
)
def test_harmless_keys_pass(model_folder: Path, key: str, value: Any) -> None:
    edit(model_folder / "config.json", **{key: value})
    assert check_folder(model_folder, PART) == []


@pytest.mark.parametrize(
    "model_type",
    ["llama", "qwen2", "qwen3", "qwen3_moe", "mistral", "mixtral", "gemma", "gemma2", "gemma3_text", "phi", "phi3",
     "olmo2", "smollm3", "granite", "gpt_neox", "gpt2", "opt", "starcoder2", "cohere", "glm4", "lfm2", "falcon",
     "bloom", "qwen3_next", "mamba", "jamba", "zamba2", "gpt_oss", "stablelm"],
)  # fmt: skip
def test_the_configs_that_transformers_writes_pass(tmp_path: Path, model_type: str) -> None:
    from transformers import CONFIG_MAPPING

    CONFIG_MAPPING[model_type]().save_pretrained(tmp_path)
    assert check_folder(tmp_path, PART, weights=False) == []


def test_paths_left_by_other_machines_pass_and_real_ones_do_not(model_folder: Path, tmp_path: Path) -> None:
    path = model_folder / "tokenizer_config.json"
    edit(path, special_tokens_map_file="/home/someone/.cache/special_tokens_map.json", vocab_file="vocab.json")
    assert check_folder(model_folder, PART) == []
    (tmp_path / "secret.json").write_text("{}")
    for outside in (str(tmp_path / "secret.json"), "../secret.json"):
        edit(path, vocab_file=outside)
        error = refused(model_folder)
        assert error.where == str(path)
        assert "`vocab_file`" in error.what


def test_unknown_types_and_types_that_do_not_write(model_folder: Path) -> None:
    edit(model_folder / "config.json", model_type="lama")
    assert refused(model_folder).what == "unknown model type 'lama'. Did you mean 'llama'?"
    edit(model_folder / "config.json", model_type="t5", architectures=["T5ForConditionalGeneration"])
    assert refused(model_folder).what == "T5ForConditionalGeneration is not a causal language model"
    edit(model_folder / "config.json", model_type="llama", architectures=["LlamaForTokenClassification"])
    assert refused(model_folder).what == "LlamaForTokenClassification is not a causal language model"
    edit(model_folder / "config.json", model_type=None)
    assert refused(model_folder).what == "no `model_type`"


def test_quantised_weights_are_refused(model_folder: Path) -> None:
    edit(model_folder / "config.json", quantization_config={"quant_method": "gptq", "modules_in_block": ["a"]})
    assert refused(model_folder).what == "the weights are quantised (gptq)"


def test_a_token_without_an_embedding_is_an_error(tiny_model: Callable[..., Any], tiny_tokenizer: Any) -> None:
    size = len(tiny_tokenizer())
    check_tokenizer(tiny_tokenizer(), tiny_model(vocab_size=size).config)
    check_tokenizer(tiny_tokenizer(), tiny_model(vocab_size=size + 64).config)  # padded vocabulary
    grown = tiny_tokenizer()
    grown.add_tokens(["<|tool|>", "<|result|>"])
    with pytest.raises(ModelError) as caught:
        check_tokenizer(grown, tiny_model(vocab_size=size).config)
    assert f"ids up to {size + 1}, the model embeddings for {size} tokens" in caught.value.what
    assert f"'<|tool|>' ({size}) and 1 more" in caught.value.what
    assert "resize_token_embeddings" in caught.value.do


def test_a_placeholder_for_images_needs_no_embedding(model_folder: Path, tiny_tokenizer: Callable[[], Any]) -> None:
    """gemma-3-1b: 262,144 embeddings, and <image_soft_token> is token 262,144."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<image_soft_token>"], special_tokens=True)
    tokenizer.save_pretrained(model_folder)
    with pytest.raises(ModelError, match="image_soft_token"):
        load(str(model_folder))
    edit(model_folder / "tokenizer_config.json", image_token="<image_soft_token>")
    assert load(str(model_folder)).tokenizer.get_vocab()["<image_soft_token>"] == 288


def test_adapters_are_looked_through(lora_run: Path, tmp_path: Path) -> None:
    adapter = lora_run / "adapter"
    check_adapter(adapter)
    edit(adapter / "adapter_config.json", megatron_config={"a": 1}, megatron_core="evil")
    with pytest.raises(ModelError, match="megatron_config"):
        check_adapter(adapter)
    edit(adapter / "adapter_config.json", megatron_config=None)
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(ModelError, match="its header promises"):
        check_adapter(adapter)
    weights.rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match="only a pickle"):
        check_adapter(adapter)
