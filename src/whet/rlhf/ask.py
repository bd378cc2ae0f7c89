"""Answers of a run or a model to rows of `prompt`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from whet.models.generate import sample
from whet.models.saved import open_run
from whet.rows import Example
from whet.tokens.template import Renderer


def answers(model: str, examples: Sequence[Example], count: int = 1, **settings: Any) -> list[str]:
    """`count` answers to each prompt, one prompt's after another's; `settings` are those of `sample`, which is greedy
    unless they say otherwise."""
    loaded = open_run(model)
    renderer = Renderer(loaded.tokenizer)
    asked = [(renderer.prompt(one.prompt, one.tools, one.place), one.place) for one in examples for _ in range(count)]
    found = sample(
        loaded.model,
        loaded.tokenizer,
        [ids for ids, _ in asked],
        stop_ids=renderer.stop_ids,
        places=[place for _, place in asked],
        **settings,
    )
    return [completion.text for completion in found]
