"""Completions by the `openai` client: text gone on with, and text scored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from whet.evaluate.score import Scorer
from whet.models.generate import sample
from whet.rows import Row

TEXTS = ["the cat sat on the mat, and the dog", "they all went", "the cat sat on the mat, and the rug lay"]


def complete(server: Any, name: str, prompt: Any, **settings: Any) -> Any:
    return server.client.completions.create(model=name, prompt=prompt, **{"temperature": 0, **settings})


def test_texts_and_tokens_are_gone_on_with(server: Any, alone: Any) -> None:
    one = alone["law"]
    ids = [one.tokenizer(text).input_ids for text in TEXTS]
    expected = sample(one.model, one.tokenizer, ids, stop_ids=one.renderer.stop_ids, max_new_tokens=16)
    for prompt in (TEXTS, ids):
        found = complete(server, "law", prompt)
        assert [choice.text for choice in found.choices] == [answer.text for answer in expected]
        assert found.usage.prompt_tokens == sum(map(len, ids))
    assert complete(server, "law", TEXTS[0]).choices[0].text == expected[0].text
    assert complete(server, "law", TEXTS[0], echo=True).choices[0].text == TEXTS[0] + expected[0].text


@pytest.mark.parametrize("name", ["tiny", "med", "falcon"])
@pytest.mark.parametrize("max_tokens", [0, 1])
def test_echo_scores_texts_as_training_does(server: Any, alone: Any, name: str, max_tokens: int) -> None:
    """As lm-eval's `local-completions` asks: token ids, echo, one alternative."""
    ids = [alone[name].tokenizer(text).input_ids for text in TEXTS]
    rows = [Row(np.array(one, np.int32), np.ones(len(one), bool)) for one in ids]
    expected = Scorer.of(alone[name].loaded).logps(rows)
    found = complete(server, name, ids, echo=True, logprobs=1, max_tokens=max_tokens)
    model = alone[name].model
    for one, choice, logps in zip(ids, found.choices, expected, strict=True):
        held = choice.logprobs
        assert len(held.tokens) == len(held.token_logprobs) == len(held.top_logprobs) == len(one) + max_tokens
        assert held.token_logprobs[0] is None
        assert held.top_logprobs[0] is None
        np.testing.assert_allclose(held.token_logprobs[1 : len(one)], logps, atol=1e-4)
        likeliest = _likeliest(model, one)
        greedy = [
            logp == max(top.values())
            for logp, top in zip(held.token_logprobs[1 : len(one)], held.top_logprobs[1 : len(one)], strict=True)
        ]
        assert greedy == [token == best for token, best in zip(one[1:], likeliest, strict=True)]


def _likeliest(model: Any, ids: list[int]) -> list[int]:
    import torch

    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, :-1].argmax(-1).tolist()  # type: ignore[no-any-return]


def test_a_stream_of_an_echo(server: Any) -> None:
    settings = {"echo": True, "logprobs": 2, "max_tokens": 9, "n": 2, "seed": 4, "temperature": 0.7}
    whole = complete(server, "tiny", TEXTS[:2], **settings)
    texts, tokens, offsets, ends = ([[] for _ in range(4)] for _ in range(4))
    for chunk in complete(server, "tiny", TEXTS[:2], stream=True, **settings):
        [choice] = chunk.choices
        texts[choice.index].append(choice.text)
        tokens[choice.index] += choice.logprobs.tokens
        offsets[choice.index] += choice.logprobs.text_offset
        ends[choice.index].append(choice.finish_reason)
    for choice in whole.choices:
        assert "".join(texts[choice.index]) == choice.text
        assert tokens[choice.index] == choice.logprobs.tokens
        assert ends[choice.index][-1] == choice.finish_reason
    assert offsets[0][:3] == [0, len(tokens[0][0]), len(tokens[0][0] + tokens[0][1])]
