"""Several runs on one base, by name: each answers as it does alone; several at once; what does not go together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import whet
from whet.errors import RunError
from whet.methods import METHODS, Given
from whet.models.saved import open_run
from whet.models.several import load_adapters
from whet.recipe import check_recipe, recipe_yaml

IDS_1L = torch.tensor([[0, 9, 20, 31]])
METHOD_SETTINGS: dict[str, dict[str, Any]] = {
    "lora": {"r": 4},
    "ia3": {},
    "prefix": {"num_virtual_tokens": 3},
    "prompt": {"num_virtual_tokens": 3},
    "bottleneck": {"variant": "houlsby", "reduction_factor": 4},
}


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(input_ids=IDS_1L).logits[:, -IDS_1L.shape[1] :]  # type: ignore[no-any-return]


@pytest.fixture
def make_run(tmp_path: Path, model_folder: Path, tiny_tokenizer: Callable[[], Any]) -> Callable[..., Path]:
    """make_run(name, kind, seed, base=..., **settings): a finished run with random weights that change the answers."""
    from transformers import AutoModelForCausalLM

    def make(name: str, kind: str = "lora", seed: int = 0, base: Path = model_folder, **settings: Any) -> Path:
        tree = {"model": {"name": str(base), "dtype": "float32"}, "data": "train.jsonl"}
        method = {"kind": kind, **METHOD_SETTINGS.get(kind, {}), **settings}
        recipe = check_recipe({**tree, "method": method}, "test")
        torch.manual_seed(seed)
        model = METHODS[kind].apply(AutoModelForCausalLM.from_pretrained(base), recipe.method, Given())
        with torch.no_grad():
            for p in model.parameters():
                if p.requires_grad:
                    p.normal_(std=0.3)
        folder = tmp_path / name
        METHODS[kind].save(model, folder / ("model" if kind == "full" else "adapter"))
        tokenizer = tiny_tokenizer()
        tokenizer.chat_template = name
        tokenizer.save_pretrained(folder / "adapter")
        (folder / "recipe.yaml").write_text(recipe_yaml(recipe))
        return folder

    return make


@pytest.mark.parametrize("kind", list(METHOD_SETTINGS))
def test_each_answers_as_it_does_alone(make_run, kind: str) -> None:
    runs = [make_run(name, kind, seed) for seed, name in enumerate(["a", "b.c"])]
    expected = [logits(open_run(run).model) for run in runs]
    assert not torch.allclose(*expected, atol=1e-2)
    loaded = whet.load_adapters(runs)
    assert loaded.names == ["a", "b.c"]
    torch.testing.assert_close(logits(loaded.model), expected[0], atol=1e-5, rtol=0)
    for name, alone in [("b.c", expected[1]), ("a", expected[0])]:
        loaded.switch(name)
        torch.testing.assert_close(logits(loaded.model), alone, atol=1e-5, rtol=0)
        assert loaded.tokenizer.chat_template == name
    with loaded.base():
        assert torch.equal(logits(loaded.model), logits(open_run(runs[0], base=True).model))


def test_two_loras_add_up(make_run) -> None:
    runs = [make_run(name, "lora", seed) for seed, name in enumerate("ab")]
    loaded = load_adapters(runs)
    loaded.switch("a", "b")
    merged = open_run(runs[0], base=True).model
    for run in runs:
        merged = add(merged, open_run(run).model.merge_and_unload(), open_run(run, base=True).model)
    torch.testing.assert_close(logits(loaded.model), logits(merged), atol=1e-4, rtol=0)


@torch.no_grad()
def add(to: Any, adapted: Any, base: Any) -> Any:
    for total, new, old in zip(to.parameters(), adapted.parameters(), base.parameters(), strict=True):
        total.add_(new - old)
    return to


def test_two_bottleneck_adapters_depend_on_their_order(make_run) -> None:
    loaded = load_adapters({"x": make_run("a", "bottleneck", 0), "y": make_run("b", "bottleneck", 1)})
    loaded.switch("x", "y")
    first = logits(loaded.model)
    loaded.switch("y", "x")
    assert not torch.allclose(logits(loaded.model), first, atol=1e-3)


def test_names(make_run, tmp_path: Path) -> None:
    run = make_run("legal")
    loaded = load_adapters([run])
    with pytest.raises(RunError, match=r"no adapter 'leagl' is loaded\. Did you mean 'legal'\?"):
        loaded.switch("leagl")
    with pytest.raises(RunError, match="no name"):
        loaded.switch()
    with pytest.raises(RunError, match="the same name"):
        load_adapters([run, run])
    with pytest.raises(RunError, match="no run to load"):
        load_adapters([])
    with pytest.raises(RunError, match="several runs are wanted"):
        load_adapters(str(run))
    with pytest.raises(RunError, match="there is no recipe"):
        load_adapters([run, tmp_path / "gone"])


def test_virtual_tokens_come_one_at_a_time(make_run) -> None:
    loaded = load_adapters([make_run("a", "prefix"), make_run("b", "prefix")])
    with pytest.raises(RunError, match="virtual tokens of 2 adapters"):
        loaded.switch("a", "b")


def test_what_does_not_go_together(make_run, tmp_path: Path, tiny_model: Callable[..., Any]) -> None:
    run = make_run("a")
    with pytest.raises(RunError, match="its method is bottleneck") as caught:
        load_adapters([run, make_run("b", "bottleneck")])
    assert caught.value.where == str(tmp_path / "b")
    tiny_model(seed=5).save_pretrained(tmp_path / "other")
    with pytest.raises(RunError, match=r"its base differs: model\.name"):
        load_adapters([run, make_run("c", base=tmp_path / "other")])
    with pytest.raises(RunError, match="a whole model, not an adapter"):
        load_adapters([make_run("d", "full")])
