"""Bottleneck adapters in files, and several on one base by name: stacked, switched, opened as a run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from whet.errors import RunError
from whet.methods import METHODS
from whet.methods.bottleneck import load, save, set_active
from whet.models.safety import check_adapter
from whet.models.saved import open_run, open_sides
from whet.recipe import check_recipe, recipe_yaml

IDS_1L = torch.tensor([[5, 9, 20, 31, 7, 64, 33]])


@pytest.fixture
def saved(make_model: Callable[..., Any], adapted: Callable[..., Any]) -> Callable[..., Path]:
    """saved(folder, variant, seed): an adapter in files."""

    def make(folder: Path, variant: str, seed: int) -> Path:
        save(adapted(make_model("llama"), variant, seed=seed), folder)
        return folder

    return make


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model.eval()(input_ids=IDS_1L, use_cache=False).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("variants", [("pfeiffer", "pfeiffer"), ("houlsby", "houlsby"), ("pfeiffer", "houlsby")])
def test_a_stack_is_one_after_the_other(make_model, tmp_path: Path, saved, variants: tuple[str, str]) -> None:
    """Against one adapter in the model's place, and the other written into a hook of its own, slow and obvious."""
    folders = [saved(tmp_path / str(n), variant, n) for n, variant in enumerate(variants)]
    model = make_model("llama")
    for name, folder in zip("ab", folders, strict=True):
        load(model, folder, name)
    set_active(model, ["a", "b"])
    stacked = logits(model)
    plain = load(make_model("llama"), folders[0], "a")
    second = load_file(folders[1] / "adapter_model.safetensors")

    def after(number: int, place: str) -> Callable[..., Any]:
        def hook(module: Any, args: Any, output: Any) -> Any:
            y = output[0] if isinstance(output, tuple) else output
            at = {key: second[f"layers.{number}.{place}.{key}"] for key in
                  ("down.weight", "down.bias", "up.weight", "up.bias")}  # fmt: skip
            inner = torch.relu(y @ at["down.weight"].T + at["down.bias"])
            y = y + inner @ at["up.weight"].T + at["up.bias"]
            return (y, *output[1:]) if isinstance(output, tuple) else y

        return hook

    for number, layer in enumerate(plain.model.layers):  # hooks come after those that are there
        for place, module in {"layer": layer, "attention": layer.self_attn, "feed_forward": layer.mlp}.items():
            if f"layers.{number}.{place}.up.bias" in second:
                module.register_forward_hook(after(number, place))
    torch.testing.assert_close(stacked, logits(plain), atol=1e-5, rtol=1e-5)
    set_active(model, ["b"])
    assert torch.equal(logits(model), logits(load(make_model("llama"), folders[1])))
    set_active(model, ["a"])
    assert torch.equal(logits(model), logits(load(make_model("llama"), folders[0])))
    set_active(model, [])
    assert torch.equal(logits(model), logits(make_model("llama")))


def test_parallel_ones_add_up(make_model, adapted, tmp_path: Path) -> None:
    model = make_model("llama", num_hidden_layers=1)
    parts = []
    for n in range(2):
        save(adapted(make_model("llama", num_hidden_layers=1), "parallel", seed=n), tmp_path / str(n))
        load(model, tmp_path / str(n), f"a{n}")
        parts.append(hidden_of(model) - hidden_of(make_model("llama", num_hidden_layers=1)))
    set_active(model, ["a0", "a1"])
    both = hidden_of(model) - hidden_of(make_model("llama", num_hidden_layers=1))
    torch.testing.assert_close(both, parts[0] + parts[1], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def hidden_of(model: Any) -> torch.Tensor:
    """After the only layer, before the last norm."""
    seen = []
    handle = model.model.norm.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    model.eval()(input_ids=IDS_1L, use_cache=False)
    handle.remove()
    return seen[0]


def test_a_new_adapter_is_trained_on_top_of_a_loaded_one(make_model, adapted, tmp_path: Path, saved) -> None:
    model = load(make_model("llama"), saved(tmp_path / "a", "pfeiffer", 1), "language")
    before = logits(model)
    model = adapted(model, "parallel")
    assert torch.equal(logits(model), before)
    assert {name.split(".")[-3] for name, p in model.named_parameters() if p.requires_grad} == {"default"}


@pytest.fixture
def bottleneck_run(adapted, tmp_path: Path, model_folder: Path, tiny_tokenizer: Callable[[], Any]) -> Path:
    """A finished run: recipe.yaml, and adapter/ with weights that change the answers."""
    from transformers import AutoModelForCausalLM

    run = tmp_path / "bottleneck-run"
    model = adapted(AutoModelForCausalLM.from_pretrained(model_folder), "houlsby", seed=1)
    METHODS["bottleneck"].save(model, run / "adapter")
    tiny_tokenizer().save_pretrained(run / "adapter")
    tree = {"model": {"name": str(model_folder), "dtype": "float32"}, "data": "train.jsonl"}
    recipe = check_recipe({**tree, "method": {"kind": "bottleneck", "variant": "houlsby"}}, "test")
    (run / "recipe.yaml").write_text(recipe_yaml(recipe))
    return run


def test_loaded_in_a_new_process_it_answers_alike(bottleneck_run: Path, tmp_path: Path) -> None:
    loaded = open_run(bottleneck_run)
    code = (
        "import torch; from safetensors.torch import save_file; from whet.models.saved import open_run\n"
        f"ids = torch.tensor({IDS_1L.tolist()})\n"
        f"model = open_run({str(bottleneck_run)!r}).model\n"
        f"with torch.no_grad(): save_file({{'logits': model(ids).logits}}, {str(tmp_path / 'out.safetensors')!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    found = load_file(tmp_path / "out.safetensors")["logits"]
    torch.testing.assert_close(found, logits(loaded.model), atol=1e-5, rtol=0)
    assert not torch.allclose(found, logits(open_run(bottleneck_run, base=True).model), atol=1e-2)
    assert not any(p.requires_grad for name, p in loaded.model.named_parameters() if "bottleneck" in name)


def test_sides_of_a_run(bottleneck_run: Path) -> None:
    (base, trained), _ = open_sides(bottleneck_run, base=True)
    assert base.model is trained.model
    with base.answering():
        assert torch.equal(logits(base.model), logits(open_run(bottleneck_run, base=True).model))
    with trained.answering():
        assert torch.equal(logits(trained.model), logits(open_run(bottleneck_run).model))


def test_the_files_are_what_the_docs_say(tmp_path: Path, saved) -> None:
    folder = saved(tmp_path / "a", "houlsby", 1)
    check_adapter(folder)
    assert json.loads((folder / "adapter_config.json").read_text()) == {
        "format": "whet-bottleneck", "format_version": 1, "variant": "houlsby", "non_linearity": "relu",
        "scaling": 1.0, "bottleneck_size": 8, "hidden_size": 32, "num_hidden_layers": 2, "model_type": "llama",
        "base_model_name_or_path": "",
    }  # fmt: skip
    shapes = {key: list(tensor.shape) for key, tensor in load_file(folder / "adapter_model.safetensors").items()}
    one = {"down.weight": [8, 32], "down.bias": [8], "up.weight": [32, 8], "up.bias": [32]}
    assert shapes == {
        f"layers.{layer}.{place}.{key}": shape
        for layer in (0, 1)
        for place in ("attention", "feed_forward")
        for key, shape in one.items()
    }


@pytest.mark.parametrize(
    ("architecture", "changes", "what"),
    [
        ("qwen3", {}, "model_type is 'llama' for the adapter and 'qwen3' for the model"),
        ("llama", {"hidden_size": 16}, "hidden_size is 32 for the adapter and 16 for the model"),
        ("llama", {"num_hidden_layers": 3}, "num_hidden_layers is 2 for the adapter and 3 for the model"),
    ],
)
def test_an_adapter_for_another_base(
    make_model, tmp_path: Path, saved, architecture: str, changes: Any, what: str
) -> None:
    folder = saved(tmp_path / "a", "pfeiffer", 1)
    model = make_model(architecture, **changes)
    with pytest.raises(RunError, match=what):
        load(model, folder)
    assert not any("bottleneck" in name for name, _ in model.named_parameters())


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("format", "other", "no bottleneck adapter of whet"),
        ("format_version", 2, "format_version is 2"),
        ("variant", "sideways", "variant is 'sideways'"),
        ("scaling", True, "scaling is True"),
        ("bottleneck_size", 10**12, r"is \[8, 32\], and \[1000000000000, 32\] by the config"),
        ("variant", "houlsby", r"layers\.0\.attention\.down\.bias is of the adapter's config"),
    ],
)
def test_a_config_that_is_wrong(make_model, tmp_path: Path, saved, key: str, value: Any, what: str) -> None:
    folder = saved(tmp_path / "a", "pfeiffer", 1)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(RunError, match=what):
        load(make_model("llama"), folder)


def test_weights_that_are_wrong(make_model, tmp_path: Path, saved) -> None:
    folder = saved(tmp_path / "a", "pfeiffer", 1)
    path = folder / "adapter_model.safetensors"
    save_file(load_file(path) | {"layers.2.layer.up.bias": torch.zeros(32)}, path)
    with pytest.raises(RunError, match=r"layers\.2\.layer\.up\.bias is of the adapter's weights"):
        load(make_model("llama"), folder)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunError, match="cannot be read"):
        load(make_model("llama"), folder)


def test_names(make_model, tmp_path: Path, saved) -> None:
    folder = saved(tmp_path / "a", "pfeiffer", 1)
    model = load(make_model("llama"), folder, "legal")
    with pytest.raises(RunError, match=r"no adapter 'leagl'\. Did you mean 'legal'\?"):
        set_active(model, ["leagl"])
    for name in ("legal", "a.b", "keys", ""):
        with pytest.raises(RunError, match=r"already|cannot be"):
            load(model, folder, name)
