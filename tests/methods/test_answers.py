"""Answers with every kind of method on the model: each token is that of a whole forward over everything before it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from whet.methods import METHODS, Given
from whet.models.generate import sample
from whet.models.probe import takes_tries
from whet.recipe import BottleneckPart

KINDS = ["lora", "dora", "ia3", "lora_tokens", "prefix", "prefix_projection", "prompt", "p_tuning", "bottleneck"]


def prompts() -> list[list[int]]:
    draw = np.random.default_rng(1)
    ids = lambda size: draw.integers(3, 97, size).tolist()  # noqa: E731
    stem = ids(19)
    return [stem + ids(4), ids(6), stem + ids(9), stem, ids(2), stem + ids(4)]


@pytest.mark.parametrize("architecture", ["llama", "mistral"])
@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_whole_forwards(
    make_model: Any, put_on: Any, tiny_tokenizer: Any, architecture: str, kind: str
) -> None:
    """mistral has a window shorter than the rows."""
    model = make_model(architecture)
    if kind == "bottleneck":
        model = METHODS["bottleneck"].apply(model, BottleneckPart(reduction_factor=4), Given())
    else:
        model = put_on(model, kind)
    model.eval()
    plain = [one.ids for one in sample(make_model(architecture), tiny_tokenizer(), prompts(), stop_ids=[1])]
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:  # many methods begin as no change at all
                parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.1)
    expected = []
    for prompt in prompts():
        ids = list(prompt)
        for _ in range(8):
            with torch.no_grad():
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        expected.append(ids[len(prompt) :])
    assert takes_tries(model)
    assert expected != [ids[:8] for ids in plain], "the method makes a difference"
    for batch_size in (1, 3, 64):
        found = sample(model, tiny_tokenizer(), prompts(), stop_ids=[], max_new_tokens=8, batch_size=batch_size)
        assert [one.ids for one in found] == expected
