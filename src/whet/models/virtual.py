"""Virtual tokens of a peft model: in the trie they are the ancestor of every row.

Prefix-tuning gives keys and values of every layer, prompt tuning and p-tuning give embeddings. Either way the rows'
segments move under one more segment at the root, and positions move on by the number of virtual tokens.
"""

from __future__ import annotations

from typing import Any

import torch

from whet.tokens.pack import Segment

KeysAndValues = list[tuple[torch.Tensor, torch.Tensor]]
"""Of each layer: keys and values [G, P, D] of P virtual tokens, as they go into attention (positions applied)."""


def virtual_tokens(model: Any) -> int:
    """How many virtual tokens stand before every row; 0 for a model without."""
    config = _config(model)
    return int(config.num_virtual_tokens) if config is not None and not _off(model) else 0


def is_prefix(model: Any) -> bool:
    """Whether they are keys and values in every layer, not embeddings."""
    config = _config(model)
    return config is not None and config.peft_type.value == "PREFIX_TUNING"


def keys_and_values(model: Any) -> KeysAndValues:
    """Of a prefix-tuned model. Differentiable in its parameters."""
    return [(layer.keys[0], layer.values[0]) for layer in model.get_prompt(1).layers]


def embeddings(model: Any, rows: int = 1) -> torch.Tensor:
    """[rows, P, D] of a prompt-tuned model. Differentiable in its parameters."""
    return model.get_prompt(rows)  # type: ignore[no-any-return]


def under_root(segments: tuple[Segment, ...], count: int) -> tuple[Segment, ...]:
    """The same trie below a root of `count` tokens."""
    moved = (Segment(s.start + count, s.stop + count, s.parent + 1) for s in segments)
    return (Segment(0, count, -1), *moved)


def _config(model: Any) -> Any:
    """peft's config of the method, where it is one of virtual tokens."""
    config = getattr(model, "active_peft_config", None)
    return config if config is not None and config.is_prompt_learning else None


def _off(model: Any) -> bool:
    """Whether `disable_adapter` is in force."""
    return bool(model._adapters_disabled)
