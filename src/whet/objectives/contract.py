"""What objectives give, and what they need of a renderer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from whet.rows import Message

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Loss:
    """`total` (a scalar tensor, nats) is to be divided by the sum of all `count`s of the step, not of this pack."""

    total: torch.Tensor
    count: float
    metrics: dict[str, float] = field(default_factory=dict)


class Rendered(Protocol):
    """`ids` [L] int32 and `targets` [L] bool of one row."""

    @property
    def ids(self) -> np.ndarray: ...
    @property
    def targets(self) -> np.ndarray: ...


class Renderer(Protocol):
    """Turns messages and texts into tokens; `whet.tokens.template.Renderer` is one."""

    def conversations(
        self,
        conversations: Sequence[tuple[list[Message], list[dict[str, Any]] | None, str]],
        learn: Literal["completions", "everything"] = ...,
        progress: Callable[[int], None] | None = ...,
    ) -> Sequence[Sequence[Rendered]]: ...

    def texts(self, texts: Sequence[tuple[str, str]]) -> Sequence[Rendered]: ...
