"""Virtual tokens: packed rows under one ancestor give the losses and gradients of peft's own forward on padded rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from whet.errors import ModelError, RecipeError
from whet.models.generate import sample
from whet.models.probe import probe
from whet.recipe import check_recipe
from whet.rows import Row
from whet.train.run import run

# These two know no groups of heads; peft believes a config that speaks of them all the same.
PLAIN_HEADS = {"gpt2": {"num_key_value_heads": 4}, "gpt_neox": {"num_key_value_heads": 4}}

KINDS = ["prefix", "prefix_projection", "prompt", "p_tuning"]


def plain_step(model: Any, rows: list[Row]) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients by peft's forward: rows padded at the right, all logits, the mean over targets."""
    longest = max(map(len, rows))
    ids, mask, labels = (torch.full((len(rows), longest), fill) for fill in (0, 0, -100))
    for place, row in enumerate(rows):
        ids[place, : len(row)], mask[place, : len(row)] = torch.from_numpy(row.ids), 1
        labels[place, : len(row)] = torch.from_numpy(np.where(row.targets, row.ids, -100))
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, -longest:].float()
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), labels[:, 1:], ignore_index=-100, reduction="none"
    )
    weights = torch.tensor([row.weight for row in rows])[:, None] * (labels[:, 1:] != -100)
    loss = (losses * weights).sum() / weights.sum()
    loss.backward()
    return loss.item(), taken(model)


def taken(model: Any) -> dict[str, torch.Tensor]:
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return gradients


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gpt2", "gpt_neox", "gemma3_text", "mistral"])
def test_loss_and_gradients_equal_peft(
    make_model: Any, make_rows: Any, put_on: Any, engine_of: Any, assert_same: Any, architecture: str, kind: str
) -> None:
    """mistral and gemma3 have windows shorter than the rows."""
    model = put_on(make_model(architecture, **PLAIN_HEADS.get(architecture, {})), kind)
    path = probe(model, 97).path
    assert path == "trie"
    loss, gradients = plain_step(model, make_rows())
    step = engine_of(model, kind, path).forward_backward(make_rows())
    assert step.loss == pytest.approx(loss, rel=1e-5)
    assert_same(taken(model), gradients, 2e-5)


def test_a_model_that_cannot_take_a_prefix_is_named(make_model: Any, put_on: Any) -> None:
    with pytest.raises(ModelError, match=r"cannot answer with this method on it(?s:.*)method=lora"):
        probe(put_on(make_model("gpt2", num_key_value_heads=2), "prefix"), 97)


@pytest.mark.parametrize("kind", ["prefix", "prompt"])
def test_a_model_on_the_padded_path(
    make_model: Any, make_rows: Any, put_on: Any, engine_of: Any, assert_same: Any, kind: str
) -> None:
    model = put_on(make_model("falcon"), kind)
    path = probe(model, 97).path
    assert path == "padded"
    loss, gradients = plain_step(model, make_rows())
    step = engine_of(model, kind, path).forward_backward(make_rows())
    assert step.loss == pytest.approx(loss, rel=1e-5)
    assert_same(taken(model), gradients, 2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointed_layers_give_the_same_gradients(
    make_model: Any, make_rows: Any, put_on: Any, engine_of: Any, assert_same: Any, kind: str
) -> None:
    model = put_on(make_model("llama"), kind)
    engine = engine_of(model, kind)
    loss = engine.forward_backward(make_rows()).loss
    expected = taken(model)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert engine.forward_backward(make_rows()).loss == pytest.approx(loss, rel=1e-6)
    assert_same(taken(model), expected, 1e-6)


def test_a_prefix_on_padded_batches_is_not_checkpointed(
    make_model: Any, tiny_tokenizer: Any, rows: Path, tmp_path: Path
) -> None:
    """transformers would drop the cache, which the prefix is there, and train on without it."""
    make_model("falcon", vocab_size=288).save_pretrained(tmp_path / "falcon")
    tiny_tokenizer().save_pretrained(tmp_path / "falcon")
    settings = {
        "model": {"name": str(tmp_path / "falcon"), "dtype": "float32"}, "data": str(rows), "method": "prefix",
        "train": {"max_steps": 1, "max_length": 64, "gradient_checkpointing": True}, "output": str(tmp_path / "run"),
    }  # fmt: skip
    with pytest.raises(RecipeError, match=r"train\.gradient_checkpointing: a prefix cannot be checkpointed"):
        run(check_recipe(settings, "test"), quiet=True)


@pytest.mark.parametrize("kind", ["prefix", "prompt"])
def test_answers_are_those_of_whole_forwards(make_model: Any, put_on: Any, tiny_tokenizer: Any, kind: str) -> None:
    """Greedy, each token from a forward over everything before it; prompts of several lengths at once."""
    model = put_on(make_model("llama"), kind).eval()
    prompts = [[5, 9, 11, 40], [7, 8], [60, 61, 62, 63, 64], [3, 4]]
    expected = []
    for prompt in prompts:
        ids = list(prompt)
        for _ in range(8):
            with torch.no_grad():
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        expected.append(ids[len(prompt) :])
    found = sample(model, tiny_tokenizer(), prompts, stop_ids=[], max_new_tokens=8)
    assert [one.ids for one in found] == expected
