"""Supervised fine-tuning: the rows of an example, and the loss of their log-probabilities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from whet.errors import RowError
from whet.objectives import OBJECTIVES, Batch, sft
from whet.recipe import SFTPart
from whet.rows import Example, Row
from whet.tokens.template import Renderer

TALK = [
    {"role": "user", "content": "the cat"},
    {"role": "assistant", "content": "sat"},
    {"role": "user", "content": "the dog"},
    {"role": "assistant", "content": "lay"},
]


def test_rows_carry_what_the_example_says_of_itself(tiny_tokenizer: Callable[[], Any]) -> None:
    renderer = Renderer(tiny_tokenizer())
    example = Example("a:1", "conversation", messages=TALK, weight=0.5, group="pets")
    (row,) = sft.SFT.rows(example, renderer, SFTPart())
    assert (row.place, row.weight, row.group, row.role) == ("a:1", 0.5, "pets", "")
    assert renderer.tokenizer.decode(row.ids[row.targets]) == "sat<|end|>lay<|end|>"
    (row,) = sft.SFT.rows(example, renderer, SFTPart(learn="everything"))
    assert row.target_count == len(row) - 1
    (row,) = sft.SFT.rows(Example("a:2", "text", text="on the mat"), renderer, SFTPart())
    assert renderer.tokenizer.decode(row.ids) == "on the mat</s>"
    assert row.target_count == len(row) - 1


def test_many_examples_give_their_own_rows_in_order(tiny_tokenizer: Callable[[], Any]) -> None:
    tokenizer = tiny_tokenizer()
    # A template without a stop token: a row a turn.
    tokenizer.chat_template = "{% for m in messages %}{{ m.content + '\n' }}{% endfor %}"
    renderer = Renderer(tokenizer)
    examples = [
        Example("a:1", "text", text="one"),
        Example("a:2", "conversation", messages=TALK),
        Example("a:3", "text", text="two"),
        Example("a:4", "conversation", messages=TALK[:2]),
    ]
    done: list[int] = []
    rows = sft.rows_of(examples, renderer, SFTPart(), done.append)
    texts = [[tokenizer.decode(row.ids) for row in of_example] for of_example in rows]
    assert texts == [
        ["one</s>"],
        ["the cat\nsat\n</s>", "the cat\nsat\nthe dog\nlay\n</s>"],
        ["two</s>"],
        ["the cat\nsat\n</s>"],
    ]
    assert [row.place for of_example in rows for row in of_example] == ["a:1", "a:2", "a:2", "a:3", "a:4"]
    assert done == [2]


@pytest.mark.parametrize(("shape", "fits"), [("preference", "dpo"), ("label", "kto"), ("prompt", "grpo")])
def test_other_shapes_are_sent_to_their_objective(tiny_tokenizer: Callable[[], Any], shape: str, fits: str) -> None:
    with pytest.raises(RowError, match=rf"^a:3: .*{shape}") as caught:
        sft.SFT.rows(Example("a:3", shape, prompt=TALK[:1]), Renderer(tiny_tokenizer()), SFTPart())
    assert fits in str(caught.value.do)


def test_the_loss_is_transformers_loss_where_all_weights_are_1() -> None:
    import torch
    from transformers.loss.loss_utils import ForCausalLMLoss

    torch.manual_seed(0)
    logits, labels = torch.randn(2, 5, 7), torch.tensor([[-100, -100, 3, 4, -100], [-100, 6, 1, 0, 2]])
    theirs = ForCausalLMLoss(logits, labels, vocab_size=7)
    at = labels[:, 1:] != -100
    logps = logits[:, :-1].log_softmax(-1).gather(-1, labels[:, 1:].clamp(min=0)[..., None])[..., 0][at]
    rows = torch.arange(2)[:, None].expand(2, 4)[at]
    batch = Batch(logps, rows, torch.ones(2), ("", ""), torch.arange(2), {"targets": 6.0})
    torch.testing.assert_close(OBJECTIVES["sft"].loss(batch, SFTPart()).total, theirs)


def test_a_rows_weight_multiplies_each_of_its_targets() -> None:
    import torch

    logps = torch.tensor([-1.0, -2.0, -4.0], requires_grad=True)
    rows = [Row(np.arange(2), np.array([False, True]), weight=2.0), Row(np.arange(3), np.arange(3) > 0, weight=0.5)]
    counts = sft.counts(rows, SFTPart())
    assert counts == {"targets": 3.0}
    batch = Batch(logps, torch.tensor([0, 1, 1]), torch.tensor([2.0, 0.5]), ("", ""), torch.arange(2), counts)
    loss = sft.loss(batch, SFTPart())
    assert loss.total.item() == pytest.approx((2.0 + 1.0 + 2.0) / 3)
    assert loss.metrics == {}
    loss.total.backward()
    assert logps.grad is not None
    assert logps.grad.tolist() == pytest.approx([-2.0 / 3, -0.5 / 3, -0.5 / 3])
