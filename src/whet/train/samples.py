"""A few held-out prompts, answered before and after training: what people look at first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from whet.models.generate import sample
from whet.rows import Example
from whet.tokens.template import Renderer

LONGEST_ANSWER = 160
TEXT_PROMPT = 48
"""Tokens of a plain text that are given; the rest is the reference."""


def sample_prompts(
    examples: Sequence[Example], renderer: Renderer, count: int, max_length: int
) -> list[tuple[list[int], dict[str, str]]]:
    """(prompt ids, {"prompt", "reference"}) of `count` examples that leave room for an answer, spread over the data."""
    found: list[tuple[list[int], dict[str, str]]] = []
    for index in np.random.default_rng(0).permutation(len(examples)):
        if len(found) == count:
            break
        ids, prompt, reference = _cut(examples[int(index)], renderer)
        if ids and len(ids) + LONGEST_ANSWER <= max_length:
            found.append((ids, {"prompt": prompt, "reference": reference}))
    return found


def _cut(example: Example, renderer: Renderer) -> tuple[list[int], str, str]:
    """Prompt ids, the last user turn (or the beginning of a text) and what came after it."""
    if example.prompt:
        asked, answer = example.prompt, next((str(turn.get("content") or "") for turn in example.chosen), "")
        return renderer.prompt(asked, example.tools, example.place), str(asked[-1]["content"] or ""), answer
    if example.shape == "text":
        ids = renderer.text(example.text, example.place).ids.tolist()
        decode = renderer.tokenizer.decode
        given, rest = ids[:TEXT_PROMPT], ids[TEXT_PROMPT : TEXT_PROMPT + LONGEST_ANSWER]
        if not rest:
            return [], "", ""
        return given, decode(given, skip_special_tokens=True), decode(rest, skip_special_tokens=True)
    last = max(i for i, message in enumerate(example.messages) if message["role"] == "assistant")
    if last == 0:
        return [], "", ""
    asked = example.messages[:last]
    ids = renderer.prompt(asked, example.tools, example.place)
    return ids, str(asked[-1]["content"] or ""), str(example.messages[last].get("content") or "")


def answers(model: Any, renderer: Renderer, prompts: Sequence[list[int]]) -> list[str]:
    """Greedy answers of the model as it is now."""
    completions = sample(
        model, renderer.tokenizer, list(prompts), max_new_tokens=LONGEST_ANSWER, stop_ids=renderer.stop_ids
    )
    return [completion.text for completion in completions]
