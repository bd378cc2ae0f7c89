"""What objectives are made of, what they give, and what they need of a renderer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from whet.rows import Example, Message, Row

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Batch:
    """What a loss sees of one pack: R rows with N targets in all, of E examples.

    `logps_N` float32: log p(target | its row so far), in nats. For an objective that `reads` rewards or values too:
    rewards are in the place of logps, values [N] are the value head's. `row_of_N` and `example_of_R` are indices.
    `given` has a tensor [N] of each of the rows' given numbers. `step` are the objective's `counts` over all packs and
    ranks of the step, by which totals are divided.
    """

    logps_N: torch.Tensor
    row_of_N: torch.Tensor
    weights_R: torch.Tensor
    roles_R: tuple[str, ...]
    example_of_R: torch.Tensor
    step: Mapping[str, float]
    given: Mapping[str, torch.Tensor] = field(default_factory=dict)
    values_N: torch.Tensor | None = None

    def by_row(self, numbers_N: torch.Tensor) -> torch.Tensor:
        """Sums [R] over the targets of each row."""
        return numbers_N.new_zeros(len(self.roles_R)).index_add(0, self.row_of_N, numbers_N)

    def by_example(self, numbers_N: torch.Tensor, *roles: str) -> torch.Tensor:
        """Sums [E] over the targets of each example's rows of these roles."""
        import torch

        wanted_R = torch.tensor([role in roles for role in self.roles_R], device=numbers_N.device)
        picked_R = self.by_row(numbers_N) * wanted_R
        return picked_R.new_zeros(int(self.example_of_R.max()) + 1).index_add(0, self.example_of_R, picked_R)

    def weight_of_example(self) -> torch.Tensor:
        """[E]: the weight of each example's first row."""
        import torch

        first = torch.full((int(self.example_of_R.max()) + 1,), len(self.roles_R), device=self.example_of_R.device)
        places = torch.arange(len(self.roles_R), device=first.device)
        return self.weights_R[first.scatter_reduce(0, self.example_of_R, places, "amin")]


@dataclass(frozen=True, slots=True)
class Loss:
    """`total`, a scalar tensor, is this pack's part of the step's mean loss: parts add up. `metrics` are by name (sum,
    count), to be added up over packs and ranks and then divided."""

    total: torch.Tensor
    metrics: dict[str, tuple[float, float]] = field(default_factory=dict)


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

    def prompt(self, messages: list[Message], tools: list[dict[str, Any]] | None, place: str) -> list[int]: ...


Scores = Callable[[Sequence[Row]], "list[torch.Tensor]"]
"""Rows -> the log-probabilities of each one's targets by the model as it is now, without a gradient."""


@dataclass(frozen=True, slots=True)
class Objective:
    """One way to learn. `part` below is its part of the recipe.

    ==============  ====================================================================================
    `rows_of`       (examples, renderer, part, progress) -> the rows of each example; a row's companions
                    are packed with it. Raises RowError for a shape that it cannot learn from
    `counts`        (rows, part) -> sums over rows that the step's losses are divided by
    `loss`          (batch, part) -> Loss
    `reference`     whether rows must be given the "reference" log-probabilities of the model at its start
    `reads`         what the model gives: "tokens" (log-probabilities), "values" too, or "rewards" instead
    `before`        (rows, scores, part) -> rows: what must be known of the model before each step
    `check`         (rows, part): raises RowError where all rows together cannot be learnt from
    ==============  ====================================================================================
    """

    rows_of: Callable[..., list[list[Row]]]
    counts: Callable[[Sequence[Row], Any], dict[str, float]]
    loss: Callable[[Batch, Any], Loss]
    reference: bool = False
    reads: Literal["tokens", "values", "rewards"] = "tokens"
    before: Callable[[list[Row], Scores, Any], list[Row]] | None = None
    check: Callable[[Sequence[Row], Any], None] | None = None

    def rows(self, example: Example, renderer: Renderer, part: Any) -> list[Row]:
        """The rows of one example."""
        return self.rows_of([example], renderer, part)[0]
