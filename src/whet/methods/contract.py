"""What a method is: functions on a transformers model, and the facts that help to choose it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from whet.errors import RecipeError


@dataclass(frozen=True, slots=True)
class Given:
    """What a method may need to know of its run beside the recipe's part."""

    tokenizer: Any = None
    total_steps: int = 0
    new_token_ids: tuple[int, ...] = ()  # of `model.new_tokens`, whose embeddings are to be trained


@dataclass(frozen=True, slots=True)
class Facts:
    """For people who choose. `private`: whether each row's gradient can be had apart, as differential privacy needs
    (Opacus fails on the others, or is silently wrong)."""

    trains: str
    source: str
    merges: bool = False
    quantizes: bool = True
    packs: bool = True
    private: bool = False


@dataclass(frozen=True)
class Method:
    """One way to adapt a model. `result` is the folder's name in the run.

    apply(model, part, given)    -> the model with its trainable parameters, in float32; all else frozen
    base(model)                  -> context manager: the model answers as it did before, where that is possible
    save(model, folder)          -> the result, in peft's or Hugging Face's own format
    load(model, folder, name)    -> a saved result on its base, to answer with; beside others by name (adapters only)
    switch(model, names)         -> answer with these of the loaded ones
    merge(model)                 -> a plain model that answers alike, where `facts.merges`
    rate(name, part, layers)     -> factor of the learning rate of a parameter, in a model of so many layers
    penalty(model)               -> what is added to the mean loss, or None
    after_step(model, step)      -> called after an update, while gradients are there
    state(model), load_state(model, tensors) -> what a resumed run needs beside parameters
    """

    facts: Facts
    apply: Callable[[Any, Any, Given], Any]
    base: Callable[[Any], AbstractContextManager[None]]
    save: Callable[[Any, Path], None]
    load: Callable[..., Any] | None = None
    switch: Callable[[Any, Sequence[str]], None] | None = None
    merge: Callable[[Any], Any] | None = None
    result: Literal["adapter", "model"] = "adapter"
    needs_float32: bool = False
    rate: Callable[[str, Any, int], float] = field(default=lambda name, part, layers: 1.0)
    penalty: Callable[[Any], torch.Tensor | None] = field(default=lambda model: None)
    after_step: Callable[[Any, int], None] = field(default=lambda model, step: None)
    state: Callable[[Any], dict[str, torch.Tensor]] = field(default=lambda model: {})
    load_state: Callable[[Any, dict[str, torch.Tensor]], None] = field(default=lambda model, tensors: None)


def refuse_new_tokens(given: Given, kind: str) -> None:
    """Raises RecipeError where tokens were added and the method trains no embeddings: they would stay as they begin."""
    if given.new_token_ids:
        raise RecipeError(
            f"{kind} trains no embeddings, so new tokens would stay as they begin",
            where="model.new_tokens",
            do="take method=lora, full or trainable_tokens",
        )
