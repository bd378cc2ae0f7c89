"""New rows fitted: the gradient is the one of plain autograd on the whole matrix, and nothing else moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from whet.models.new_rows import _in_place, fit_rows

ROWS = [[0, 7, 280, 9, 281, 280, 3], [0, 281, 5, 280, 281, 6], [0, 280, 281, 4, 283]] * 3


@pytest.mark.parametrize("architecture", ["llama", "gemma3_text", "gpt2"])
def test_gradients_are_those_of_the_whole_matrix(make_model: Callable[..., Any], architecture: str) -> None:
    model = make_model(architecture)
    tokens, ids = [90, 91], torch.tensor([[0, 7, 90, 9, 91, 90, 3]])
    inputs, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = inputs.weight.data_ptr() == head.weight.data_ptr()

    def loss() -> torch.Tensor:
        logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
        return torch.nn.functional.cross_entropy(logits, ids[0, 1:])

    plain = loss()
    plain.backward()
    wanted = [weight.grad[tokens].clone() for weight in (inputs.weight, head.weight)]
    rows_in = inputs.weight[tokens].detach().clone().requires_grad_()
    rows_out = rows_in if tied else head.weight[tokens].detach().clone().requires_grad_()
    with _in_place(inputs, head, tokens, rows_in, rows_out):
        own = loss()
    own.backward()
    assert own.item() == pytest.approx(plain.item(), abs=1e-6)
    assert torch.allclose(rows_in.grad, wanted[0], atol=1e-6)
    assert torch.allclose(rows_out.grad, wanted[1], atol=1e-6)


@pytest.mark.parametrize("tied", [True, False])
def test_only_new_rows_that_the_texts_have_move_and_the_loss_falls(tiny_model: Callable[..., Any], tied: bool) -> None:
    model = tiny_model(tie_word_embeddings=tied)
    before = {name: weight.clone() for name, weight in model.named_parameters()}

    def loss() -> float:
        return sum(model(input_ids=torch.tensor([row]), labels=torch.tensor([row])).loss.item() for row in ROWS)

    first = loss()
    fit_rows(model, [280, 281, 282, 283], ROWS, epochs=4)
    assert loss() < first
    for name, weight in model.named_parameters():
        moved = (weight != before[name]).flatten(1).any(1).nonzero().flatten().tolist() if weight.ndim > 1 else []
        assert moved == ([280, 281] if "embed" in name or "lm_head" in name else [])  # 283 is there three times only
        assert weight.requires_grad
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied
