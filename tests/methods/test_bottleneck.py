"""Bottleneck adapters: nothing at the start, the papers' sums, exact gradients on packs; what is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from whet.errors import ModelError, RecipeError
from whet.methods import METHODS, Given
from whet.methods.bottleneck import disable
from whet.methods.bottleneck.places import decoder_layers
from whet.models.language_model import LanguageModel
from whet.models.probe import probe
from whet.recipe import BottleneckPart, SFTPart, TrainPart
from whet.train.engine import Engine

VARIANTS = ["houlsby", "pfeiffer", "parallel"]
ARCHITECTURES = [
    "llama", "qwen3", "mistral", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "cohere", "granite", "phi",
    "phimoe", "falcon", "bloom", "gpt_oss",
]  # fmt: skip
IDS_1L = torch.tensor([[5, 9, 20, 31, 7, 64, 33]])


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model.eval()(input_ids=IDS_1L, use_cache=False).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nothing_at_the_start_and_only_adapters_are_trained(
    make_model, adapted, architecture: str, variant: str
) -> None:
    model = make_model(architecture)
    before = logits(model)
    model = adapted(model, variant)
    assert torch.equal(logits(model), before)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert all("bottleneck_adapters" in name for name in trained)
    assert all(p.dtype == torch.float32 for p in trained.values())
    places = 2 if variant == "houlsby" else 1
    assert sum(p.numel() for p in trained.values()) == 2 * places * (32 * 8 + 8 + 8 * 32 + 32)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in trained.values():
            p.normal_(std=0.2, generator=draw)
    assert not torch.allclose(logits(model), before, atol=1e-3)
    with METHODS["bottleneck"].base(model):
        assert torch.equal(logits(model), before)


def by_hand(model: Any, adapters: list[nn.Module], hidden: torch.Tensor, layer: Any, variant: str, **more: Any) -> Any:
    """A Llama's or a GPT-NeoX's layer written out, with an adapter where docs/adapters.md says."""
    add = [lambda x, a=a: a.scaling * a.up(torch.relu(a.down(x))) for a in adapters]
    attention, norm = (
        (layer.self_attn, layer.post_attention_layernorm)
        if hasattr(layer, "self_attn")
        else (layer.attention, layer.post_attention_layernorm)
    )
    attended = attention(layer.input_layernorm(hidden), **more)[0]
    attended = attended + add[0](attended) if variant == "houlsby" else attended
    stream = hidden if hasattr(layer, "attention") else hidden + attended  # GPT-NeoX: both read the layer's input
    fed = layer.mlp(norm(stream))
    if variant == "houlsby":
        fed = fed + add[1](fed)
    if variant == "parallel":
        fed = fed + add[0](stream)
    out = hidden + attended + fed
    return out + add[0](out) if variant == "pfeiffer" else out


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("architecture", ["llama", "gpt_neox"])
def test_a_layer_is_what_the_papers_say(make_model, adapted, architecture: str, variant: str) -> None:
    """In a model whose sub-layers stand one after the other, and in one whose sub-layers stand side by side."""
    model = adapted(make_model(architecture).eval(), variant, seed=3, scaling=2.0)
    layer = decoder_layers(model)[0]
    adapters = [place.adapters["default"] for place in layer.bottleneck_adapters.values()]
    hidden = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(4))
    rotary = getattr(model, "model", None) or model.gpt_neox
    more = {"position_embeddings": rotary.rotary_emb(hidden, torch.arange(5)[None]), "attention_mask": None}
    with torch.no_grad():
        found = layer(hidden, **more)
        found = found[0] if isinstance(found, tuple) else found
        with disable(model):
            expected = by_hand(model, adapters, hidden, layer, variant, **more)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


SETTINGS: list[dict[str, Any]] = [
    {},
    {"pack_tokens": 50},
    {"gradient_checkpointing": True},
]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2", "gpt_neox", "phi", "falcon"])
def test_a_packed_step_equals_plain_transformers_on_padded_rows(
    make_model, adapted, make_rows, plain_step, gradients, assert_same, architecture: str, variant: str
) -> None:
    """Loss and every gradient to 1e-5, shared, cut or recomputed."""
    model, rows = adapted(make_model(architecture), variant, seed=1), make_rows()
    path = probe(model, 97).path
    assert path == ("padded" if architecture == "falcon" else "trie")
    model.train()
    loss, expected = plain_step(model, rows)
    assert all(float(gradient.abs().max()) > 0 for gradient in expected.values())
    for setting in SETTINGS:
        part = TrainPart(**setting)
        if part.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        engine = Engine(LanguageModel(model, path), SFTPart(), part, Accelerator(cpu=True), torch.float32)
        engine.language_model.train()
        assert engine.forward_backward(rows).loss == pytest.approx(loss, rel=1e-5)
        assert_same(gradients(model), expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_loss_falls(make_model, adapted, make_rows, variant: str) -> None:
    torch.manual_seed(0)
    model = adapted(make_model("llama"), variant)
    part = BottleneckPart(variant=variant)
    engine = Engine(LanguageModel(model), SFTPart(), TrainPart(), Accelerator(cpu=True), torch.float32, method=part)
    frozen = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    losses = []
    for _ in range(30):
        losses.append(engine.forward_backward(make_rows()).loss)
        engine.optim_step(0.02)
    assert losses[-1] < losses[0] - 1
    assert all(torch.equal(p, frozen[name]) for name, p in model.named_parameters() if name in frozen)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_bfloat16_base_with_and_without_autocast(make_model, adapted, variant: str) -> None:
    """Parameters stay float32; hidden states keep the base's type, as they must for the next layer."""
    exact = logits(adapted(make_model("llama"), variant, seed=2))
    model = adapted(make_model("llama").to(torch.bfloat16), variant, seed=2)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    plain = logits(model)
    with torch.autocast("cpu", torch.bfloat16):
        cast = logits(model)
    assert plain.dtype == cast.dtype == torch.bfloat16
    for found in (plain, cast):
        assert float((found.float() - exact).abs().mean()) < 0.02 * float(exact.abs().mean()) + 0.02


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("architecture", ["llama", "gpt_neox", "bloom"])
def test_generation_with_a_cache_equals_recomputation(make_model, adapted, architecture: str, variant: str) -> None:
    model = adapted(make_model(architecture), variant, seed=1).eval()
    settings = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    given = {"input_ids": IDS_1L, "attention_mask": torch.ones_like(IDS_1L)}
    out = model.generate(**given, **settings, use_cache=True, output_logits=True, return_dict_in_generate=True)
    found = torch.stack(out.logits, 1)
    with torch.no_grad():
        expected = model(input_ids=out.sequences, use_cache=False).logits[:, IDS_1L.shape[1] - 1 : -1]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        with disable(model):
            before = model(input_ids=out.sequences, use_cache=False).logits[:, IDS_1L.shape[1] - 1 : -1]
    assert float((found - before).abs().max()) > 0.01


def test_a_copy_of_the_model_uses_its_own_adapters(make_model, adapted) -> None:
    model = adapted(make_model("llama"), "parallel", seed=1)
    other = copy.deepcopy(model)
    before = logits(other)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_() if p.requires_grad else None
    assert torch.equal(logits(other), before)
    with disable(model):
        assert torch.equal(logits(other), before)


def test_parameters_can_be_counted_without_weights(make_model, adapted) -> None:
    counted = adapted(make_model("llama").to("meta"), "houlsby")
    assert sum(p.numel() for p in counted.parameters() if p.requires_grad) == 2 * 2 * (32 * 8 + 8 + 8 * 32 + 32)
    assert all(p.is_meta for p in counted.parameters())


def test_a_factor_over_the_width(make_model, adapted) -> None:
    with pytest.raises(RecipeError, match="leaves nothing of the model's width, 32") as caught:
        adapted(make_model("llama"), reduction_factor=33)
    assert caught.value.where == "method.reduction_factor"
    assert decoder_layers(adapted(make_model("llama"), reduction_factor=32))


def test_new_tokens(make_model) -> None:
    with pytest.raises(RecipeError, match="trains no embedding"):
        METHODS["bottleneck"].apply(make_model("llama"), BottleneckPart(), Given(new_token_ids=(96,)))


def test_layers_that_are_not_understood(make_model, adapted) -> None:
    model = make_model("llama")
    for layer in model.model.layers:
        layer.mixer = layer._modules.pop("mlp")
        layer.__class__ = type("Mixing", (type(layer),), {"mlp": property(lambda self: self.mixer)})
    with pytest.raises(ModelError, match=r"feed-forward of layer 0 \(Mixing\) is none of self_attn") as caught:
        adapted(model, "houlsby")
    assert "method.variant=pfeiffer" in str(caught.value.do)
    before = logits(model)
    assert torch.equal(logits(adapted(model, "pfeiffer")), before)


def test_a_module_that_is_never_called(make_model, adapted) -> None:
    """A hook there would be one that never works: silently no adapter at all."""
    model = make_model("llama")
    for layer in model.model.layers:
        layer.__class__ = type("Around", (type(layer),), {"mlp": property(lambda self: self._modules["mlp"].forward)})
    with pytest.raises(ModelError, match="is called 0 times in a pass"):
        adapted(model, "parallel")
