"""What the command line lends to steps of curation that ask a model. Models are opened when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from whet.errors import ModelError


@lru_cache(maxsize=1)
def _opened(model: str) -> tuple[Any, Any]:
    from whet.cli.generate import open_for_answers
    from whet.tokens.template import Renderer

    side = open_for_answers(model, base=False)[0]
    return side, Renderer(side.tokenizer)


def generate(
    prompts: list[str], *, model: str, max_new_tokens: int = 256, temperature: float = 0.0, seed: int = 0
) -> list[str]:
    """The answer of a run or a model to each prompt, a user's turn of its own; "" where a prompt leaves no room."""
    from whet.models.generate import room, sample

    side, renderer = _opened(model)
    ids, fit = [], []
    for number, prompt in enumerate(prompts):
        rendered = renderer.prompt([{"role": "user", "content": prompt}], place=f"prompt {number + 1}")
        try:
            room(side.model, rendered, max_new_tokens)
        except ModelError:
            continue
        ids.append(rendered)
        fit.append(number)
    answers = [""] * len(prompts)
    with side.answering():
        settings: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
        found = sample(side.model, side.tokenizer, ids, stop_ids=renderer.stop_ids, **settings)
    for number, completion in zip(fit, found, strict=True):
        answers[number] = completion.text
    return answers


def perplexity(texts: Sequence[str], *, model: str) -> list[float | None]:
    """Bits a byte of each text under a model; None where nothing is predicted."""
    from whet.evaluate.texts import bits_per_byte

    scores: list[float | None] = bits_per_byte(texts, model)
    return scores


def embedder(model: str) -> Callable[[Sequence[str]], Any]:
    """A function of texts -> array [texts, width], by the hidden states of a run or a model."""

    def embed(texts: Sequence[str]) -> Any:
        from whet.models.embed import embed as vectors

        side, _ = _opened(model)
        with side.answering():
            return vectors(side.model, side.tokenizer, texts)

    return embed
