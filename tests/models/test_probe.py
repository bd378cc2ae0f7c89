"""The probe: the fast path where it is right, another with the reason where it is not."""

from __future__ import annotations

import pytest
import torch

from whet.errors import ModelError
from whet.models.language_model import LanguageModel
from whet.models.probe import probe
from whet.tokens.pack import pack_rows

VOCABULARY = 97


@pytest.mark.parametrize(
    "architecture",
    ["llama", "qwen3", "mistral", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "cohere", "granite", "phi"],
)
def test_models_that_take_the_trie(make_model, architecture: str) -> None:
    probed = probe(make_model(architecture), VOCABULARY)
    assert (probed.path, probed.reason) == ("trie", "")
    assert probed.difference < 1e-4


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [("falcon", "does not take a trie"), ("bloom", "0 of its 2 layers"), ("gpt_oss", "no sinks")],
)
def test_models_that_do_not_are_padded_and_told_why(make_model, architecture: str, reason: str) -> None:
    probed = probe(make_model(architecture), VOCABULARY)
    assert probed.path == "padded"
    assert reason in probed.reason
    assert probed.difference < 1e-4


def test_layers_of_an_unknown_kind_are_refused_before_they_are_tried(make_model) -> None:
    """Chunked attention is full attention on rows as short as the probe's."""
    model = make_model("llama")
    model.config.layer_types = ["full_attention", "chunked_attention"]
    probed = probe(model, VOCABULARY)
    assert probed.path == "padded"
    assert "chunked_attention" in probed.reason


def test_a_window_that_is_left_to_the_mask_is_caught(make_model) -> None:
    """PhiMoE's layers do not tell attention of their window, and this one is longer than the probe's rows."""
    model = make_model("phimoe", sliding_window=200)
    probed = probe(model, VOCABULARY)
    assert probed.path == "padded"
    assert "differs by" in probed.reason
    assert model.config.sliding_window == 200
    assert probe(make_model("phimoe"), VOCABULARY).path == "trie"


@pytest.mark.parametrize("architecture", ["mistral", "gemma3_text"])
def test_a_window_that_attention_is_told_of_is_no_hindrance(make_model, architecture: str) -> None:
    model = make_model(architecture, sliding_window=200)
    assert probe(model, VOCABULARY).path == "trie"
    assert {getattr(module, "sliding_window", None) for module in model.modules()} <= {200, None}


def test_one_layer_with_attention_of_its_own_is_caught(make_model) -> None:
    """It never asks for the registered function, so a shared pack would be one long row to it."""
    model = make_model("llama")
    layer = model.model.layers[1].self_attn
    plain = layer.forward

    def own(*given, **more):
        named, layer.config._attn_implementation = layer.config._attn_implementation, "sdpa"
        try:
            return plain(*given, **more)
        finally:
            layer.config._attn_implementation = named

    layer.forward = own
    probed = probe(model, VOCABULARY)
    assert probed.path == "padded"
    assert "1 of its 2 layers" in probed.reason


@pytest.mark.parametrize("bias", [0.05, 1.0])
def test_attention_that_adds_something_of_its_own_is_caught(make_model, bias: float) -> None:
    """The layer asks for the function, then adds what it makes of its place in the pack."""
    model = make_model("llama")
    layer = model.model.layers[0].self_attn
    plain = layer.forward

    def biased(hidden_states, **more):
        out, weights = plain(hidden_states, **more)
        return out + bias * torch.arange(hidden_states.shape[1])[:, None] / 10, weights

    layer.forward = biased
    probed = probe(model, VOCABULARY)
    assert probed.path == "padded"
    assert "differs by" in probed.reason


@pytest.mark.parametrize("architecture", ["llama", "falcon"])
def test_a_head_that_does_something_unknown_is_run_as_it_is(make_model, make_rows, architecture: str) -> None:
    model = make_model(architecture)
    plain = model.forward

    def forward(*given, **more):
        out = plain(*given, **more)
        out.logits = out.logits * 1.3
        return out

    model.forward = forward
    probed = probe(model, VOCABULARY)
    assert probed.path == "logits"
    assert probed.difference < 1e-4
    (pack,) = pack_rows(make_rows(), 10_000, padded=True)
    with torch.no_grad():
        found, untouched = LanguageModel(model, probed.path)(pack), LanguageModel(model, "padded")(pack)
    assert float((found - untouched).abs().max()) > 0.01


def test_a_model_that_pads_wrongly_is_refused(make_model) -> None:
    """Nothing gives its own numbers then, and training it would train something else."""
    model = make_model("bloom")
    plain = model.forward

    def forward(input_ids, **more):
        out = plain(input_ids=input_ids, **more)
        out.logits = out.logits + 0.1 * len(input_ids) * torch.arange(out.logits.shape[-1])
        return out

    model.forward = forward
    with pytest.raises(ModelError, match="padded rows"):
        probe(model, VOCABULARY)


def test_a_model_in_training_stays_so_and_dropout_does_not_disturb(make_model) -> None:
    model = make_model("gpt2", resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5)
    assert probe(model, VOCABULARY).path == "trie"
    assert model.training
    assert model.config._attn_implementation == "eager"


def test_bfloat16_weights_have_a_tolerance_of_their_own(make_model) -> None:
    assert probe(make_model("llama").bfloat16(), VOCABULARY).path == "trie"
