"""Bytes counted by hand for a model of two layers, and what must grow or shrink with what."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from whet.advise.dry_run import Counted, Held, build, step
from whet.advise.fit import options, refuse
from whet.advise.machine import Machine
from whet.advise.memory import Forecast, put_together
from whet.methods import METHODS, Given
from whet.recipe import Recipe, check_recipe

D, INNER, V, LAYERS, HEADS, GROUPS = 64, 128, 100, 2, 4, 2
KV = D // HEADS * GROUPS
LINEAR = LAYERS * (2 * D * D + 2 * D * KV + 3 * D * INNER)
NORMS = (2 * LAYERS + 1) * D
ALL = LINEAR + NORMS + V * D  # head and embeddings are tied
ROTARY = 2 * 4 * (D // HEADS // 2)  # inv_freq and original_inv_freq, float32
R = 4
LORA = LAYERS * R * (2 * (D + D) + 2 * (D + KV) + 3 * (D + INNER))


def config(**changes: Any) -> LlamaConfig:
    settings = {
        "vocab_size": V, "hidden_size": D, "intermediate_size": INNER, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "num_key_value_heads": GROUPS, "tie_word_embeddings": True,
    }  # fmt: skip
    return LlamaConfig(**{**settings, **changes})


def recipe(method: Any, quantize: str | None = None, **train: Any) -> Recipe:
    return check_recipe({"data": "x", "method": method, "model": {"quantize": quantize}, "train": train}, "test")


def held(method: Any, lengths: list[int], changes: dict[str, Any] | None = None, **train: Any) -> Held:
    return step(config(**(changes or {})), recipe(method, **train), lengths, torch.bfloat16, torch.bfloat16)


def whole(method: Any, quantize: str | None = None, **settings: Any) -> Forecast:
    of = recipe(method, quantize)
    _, counted = build(config(), of.method, torch.bfloat16)
    return put_together(of, counted, Held(activations=1000), 10, process=7, **settings)


def test_full_holds_everything_in_float32() -> None:
    _, counted = build(config(), recipe("full").method, torch.bfloat16)
    assert (counted.parameters, counted.trained) == (ALL, ALL)
    assert counted.weight_bytes == 4 * ALL + ROTARY
    parts = whole("full", device="cuda").parts
    assert parts["weights"] == 4 * ALL + ROTARY
    assert parts["optimizer"] == 8 * ALL
    assert parts["gradients"] == 4 * ALL  # the update, when all of them are there


def test_lora_holds_the_base_in_bfloat16_and_its_own_in_float32() -> None:
    _, counted = build(config(), recipe({"kind": "lora", "r": R}).method, torch.bfloat16)
    assert (counted.parameters, counted.trained, counted.trained_bytes) == (ALL, LORA, 4 * LORA)
    assert counted.weight_bytes == 2 * ALL + 4 * LORA + ROTARY
    assert whole({"kind": "lora", "r": R}).parts["optimizer"] == 8 * LORA


@pytest.mark.parametrize("kind", METHODS)
def test_every_method_is_counted_without_memory_as_with_it(kind: str) -> None:
    part = recipe({"kind": kind, **({"token_indices": [3]} if kind == "trainable_tokens" else {})}).method
    _, counted = build(config(), part, torch.float32)
    model = METHODS[kind].apply(AutoModelForCausalLM.from_config(config()), part, Given(total_steps=1000))
    assert counted.trained == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("kind", "linear"), [("nf4", LINEAR // 2 + 4 * LINEAR // 64), ("int8", LINEAR)], ids=["nf4", "int8"]
)
def test_a_quantized_base_holds_linear_layers_in_few_bits(kind: str, linear: int) -> None:
    parts = whole({"kind": "lora", "r": R}, kind).parts
    assert parts["weights"] == linear + 2 * (NORMS + V * D) + 4 * LORA + ROTARY
    assert parts["file"] == 2 * LINEAR  # as it was read


def test_a_checkpoint_is_a_copy_of_parameters_and_moments() -> None:
    found = whole("full")  # on the CPU, with next to no activations
    assert found.moment == "checkpoint"
    assert found.parts["checkpoint"] == 12 * ALL


def test_kernels_are_kept_for_every_size_of_pack_up_to_the_cache() -> None:
    kernels = [whole({"kind": "lora", "r": R}, sizes=sizes).parts["kernels"] for sizes in (1, 10, 1000)]
    assert kernels[1] == 10 * kernels[0]
    assert kernels[2] == 1024 * 10**6
    assert "kernels" not in whole("lora", compute=torch.float32).parts


def test_prefix_counts_keys_and_values_of_every_layer() -> None:
    _, counted = build(config(), recipe({"kind": "prefix", "num_virtual_tokens": 5}).method, torch.bfloat16)
    assert counted.trained == 5 * LAYERS * 2 * KV


def test_the_gradients_of_a_step_are_those_of_trained_parameters() -> None:
    found = held("full", [16, 16], {"num_hidden_layers": 1, "vocab_size": 5000}, gradient_checkpointing=True)
    assert 0 <= found.gradients <= 4 * (5000 * D + LINEAR)


def test_activations_grow_in_step_with_rows_and_layers() -> None:
    two, four, eight = (held("lora", [256] * rows).activations for rows in (2, 4, 8))
    assert eight - four == pytest.approx(2 * (four - two), rel=0.02)
    deep = [held("lora", [64, 64], {"num_hidden_layers": n}).activations for n in (2, 4, 6)]
    assert deep[2] - deep[1] == deep[1] - deep[0] > 0


def test_many_layers_are_a_straight_line_from_a_few() -> None:
    from whet.advise import dry_run

    deep = {"num_hidden_layers": 12}
    short = held("lora", [32, 32], deep)
    limit, dry_run.FEW_LAYERS = dry_run.FEW_LAYERS, 64
    try:
        assert short == held("lora", [32, 32], deep)
    finally:
        dry_run.FEW_LAYERS = limit


def test_checkpointing_keeps_less_and_lora_holds_less_than_full() -> None:
    rows = [128] * 4
    assert held("lora", rows, gradient_checkpointing=True).activations < held("lora", rows).activations / 3
    assert whole({"kind": "lora", "r": R}, device="cuda").total < whole("full", device="cuda").total
    in_bits = [whole("lora", kind, device="cuda").total for kind in ("nf4", "int8", None)]
    assert in_bits == sorted(in_bits)


def test_the_head_never_holds_all_logits() -> None:
    vocabulary = {"vocab_size": 50_000}
    small, large = (held("lora", [length], vocabulary).head for length in (256, 1024))
    assert large < 1024 * 50_000 * 4 / 2
    assert large - small < 2 * 1024 * D * 4  # only what is kept of a target grows with their number


def test_sharding_divides_what_zero_says_it_divides() -> None:
    on_four = {kind: whole("full", device="cuda", devices=4, sharding=kind).parts
               for kind in ("plain", "zero1", "zero2", "zero3", "fsdp")}  # fmt: skip
    alone = whole("full", device="cuda").parts
    assert on_four["plain"]["optimizer"] == alone["optimizer"]
    assert on_four["zero1"]["optimizer"] == alone["optimizer"] // 4
    assert on_four["zero2"]["gradients"] == alone["gradients"] // 4
    assert on_four["zero3"]["weights"] == -(-alone["weights"] // 4)
    assert on_four["zero3"] == on_four["fsdp"]
    assert whole("full", device="cuda", devices=1, sharding="zero3").parts == alone


def test_the_largest_pack_fills_the_room() -> None:
    counted = Counted(100, 10, 400, 40, 0, 0, 0, 0, 0, 0)
    found = put_together(recipe("lora"), counted, Held(activations=1000, head=50), 10, process=7, device="cuda")
    fixed = 400 + 80 + 50 + 7  # weights, moments, head, process
    assert found.total == fixed + 1000
    assert found.largest_pack(fixed + 3000) == 30
    assert found.largest_pack(fixed - 1) == 0


def test_what_fits_and_the_error_where_nothing_does() -> None:
    of = recipe("auto")
    found = options(of, config(), [32, 32], Machine("cpu", 1, 10**9), process=1000)
    assert {"full", "lora r=16", "lora r=16 on nf4", "prefix"} <= {option.name for option in found}
    assert all(option.fits for option in found)
    small = Machine("cuda", 1, 450_000)
    found = options(of, config(), [32, 32], small, process=1000)
    assert not any(option.fits for option in found)
    message = str(refuse(of, found, small))
    assert "not enough memory for any method" in message
    assert "parameters would fit" in message
