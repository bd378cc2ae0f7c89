"""Bottleneck adapters against the `adapters` library: with the same weights the same logits, and as many parameters.

fixtures/ was written by make_adapters_fixture.py, which says how.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from whet.methods import METHODS, Given
from whet.methods.bottleneck import load, save, set_active
from whet.recipe import BottleneckPart

FIXTURES = Path(__file__).parent / "fixtures"
FACTS = json.loads((FIXTURES / "adapters.json").read_text())
TENSORS = load_file(FIXTURES / "adapters.safetensors")
NON_LINEARITIES = {"swish": "silu"}


def under(prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in TENSORS.items() if name.startswith(prefix)}


def base(architecture: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(architecture, **FACTS["models"][architecture])
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    lacking = model.load_state_dict(under(f"{architecture}/model/"), strict=False)
    assert set(lacking.missing_keys) <= {"lm_head.weight"}  # tied in gpt2
    return model


def put_on(model: Any, architecture: str, name: str) -> Any:
    """The adapter as the recipe would have it, with the library's weights."""
    settings = dict(FACTS["adapters"][name])
    settings["non_linearity"] = NON_LINEARITIES.get(settings["non_linearity"], settings["non_linearity"])
    part = BottleneckPart(variant=name.split()[0], **settings)
    model = METHODS["bottleneck"].apply(model, part, Given())
    output = {"houlsby": "feed_forward", "pfeiffer": "layer", "parallel": "parallel"}[part.variant]
    places = {"attention_adapters": "attention", "output_adapters": output}
    layers = model.model.layers if architecture == "llama" else model.transformer.h
    weights = {path: t for path, t in under(f"{architecture}/{name}/").items() if path != "logits"}
    with torch.no_grad():
        for path, tensor in weights.items():
            # model.layers.0.output_adapters.adapters.pfeiffer.adapter_down.0.weight
            words = path.split(".")
            adapter = layers[int(words[2])].bottleneck_adapters[places[words[3]]].adapters["default"]
            module = adapter.down if words[6] == "adapter_down" else adapter.up
            getattr(module, words[-1]).copy_(tensor)
    return model


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(input_ids=TENSORS["ids"], use_cache=False).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", list(FACTS["adapters"]))
@pytest.mark.parametrize("architecture", list(FACTS["models"]))
def test_the_same_logits_and_as_many_parameters(architecture: str, name: str) -> None:
    model = base(architecture)
    torch.testing.assert_close(logits(model), TENSORS[f"{architecture}/logits"], atol=1e-5, rtol=0)
    model = put_on(model, architecture, name)
    expected = TENSORS[f"{architecture}/{name}/logits"]
    assert float((expected - TENSORS[f"{architecture}/logits"]).abs().max()) > 0.1
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=0)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == FACTS["parameters"][f"{architecture}/{name}"]


@pytest.mark.parametrize("architecture", list(FACTS["models"]))
def test_a_stack_is_the_librarys_stack(architecture: str, tmp_path: Path) -> None:
    for name in ("houlsby", "houlsby second"):
        save(put_on(base(architecture), architecture, name), tmp_path / name)
    model = load(base(architecture), tmp_path / "houlsby", "first")
    model = load(model, tmp_path / "houlsby second", "second")
    set_active(model, ["first", "second"])
    expected = TENSORS[f"{architecture}/houlsby, houlsby second/logits"]
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=0)
    set_active(model, ["second", "first"])
    assert float((logits(model) - expected).abs().max()) > 0.1
