"""The next token of each row from its logits: the likeliest, or one that is drawn.

Every row draws from random numbers of its own, which follow from the seed and the row's number alone. So what a row
draws does not hang on which rows are answered beside it, nor on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from whet.errors import ModelError

COLDEST = 1e-4
"""Logits divided by less leave the range of float32; the likeliest token is what would be drawn."""


@dataclass
class Draw:
    """How tokens are chosen. `name(row)` is how an error calls a row; `first` is added to its number, for lists that
    are answered in parts. `keep`: hold each token's log-probability by row in `logps`, at this temperature and before
    `top_k` and `top_p`."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    first: int = 0
    name: Callable[[int], str] = lambda row: f"prompt {row + 1}"
    keep: bool = False
    logps: dict[int, list[float]] = field(default_factory=dict)
    numbers: dict[int, np.random.Generator] = field(default_factory=dict)  # of each row that has drawn

    def __call__(self, logits_RV: torch.Tensor, rows: Sequence[int]) -> list[int]:
        """A token for each row, whose numbers are `rows`. Raises ModelError where logits are no numbers."""
        logits_RV = logits_RV.float()
        highest_R, likeliest_R = logits_RV.max(dim=-1)  # NaN is the highest of all
        if not bool(highest_R.isfinite().all()):
            row = rows[int((~highest_R.isfinite()).nonzero()[0])]
            raise ModelError(
                "the model gives no numbers (NaN)",
                where=self.name(row),
                do="check the weights with `whet selftest`, or answer in float32 (model.dtype=float32)",
            )
        chosen = likeliest_R.tolist() if self.temperature <= COLDEST else self._drawn(logits_RV, rows)
        if self.keep:
            warmth = 1.0 if self.temperature <= COLDEST else self.temperature
            index_R1 = torch.tensor(chosen, device=logits_RV.device)[:, None]
            logps_R = (logits_RV / warmth).log_softmax(-1).gather(1, index_R1)[:, 0].tolist()
            for row, logp in zip(rows, logps_R, strict=True):
                self.logps.setdefault(row, []).append(logp)
        return chosen  # type: ignore[no-any-return]

    def _drawn(self, logits_RV: torch.Tensor, rows: Sequence[int]) -> list[int]:
        drawn = [self._number(row) for row in rows]
        summed_RV = self.probabilities(logits_RV).double().cumsum(-1)
        drawn_R1 = torch.tensor(drawn, dtype=torch.float64)[:, None].to(logits_RV.device) * summed_RV[:, -1:]
        # The first token whose sum is past the number drawn: never one of probability 0.
        return torch.searchsorted(summed_RV, drawn_R1, right=True)[:, 0].tolist()  # type: ignore[no-any-return]

    def probabilities(self, logits_RV: torch.Tensor) -> torch.Tensor:
        """What is drawn from [R, V]: the softmax at this temperature over the `top_k` likeliest tokens, and of them
        over the fewest that make up `top_p` (Holtzman et al. 2020, arXiv 1904.09751)."""
        logits_RV = logits_RV / self.temperature
        if 0 < self.top_k < logits_RV.shape[-1]:
            least_R1 = logits_RV.topk(self.top_k, dim=-1).values[:, -1:]
            logits_RV = logits_RV.masked_fill(logits_RV < least_R1, float("-inf"))
        if self.top_p < 1:
            sorted_RV, order_RV = logits_RV.sort(dim=-1, descending=True)
            probability_RV = sorted_RV.softmax(-1)
            beyond_RV = probability_RV.cumsum(-1) - probability_RV >= self.top_p
            beyond_RV[:, 0] = False
            logits_RV = logits_RV.masked_fill(beyond_RV.scatter(1, order_RV, beyond_RV), float("-inf"))
        return logits_RV.softmax(-1)

    def _number(self, row: int) -> float:
        if row not in self.numbers:
            self.numbers[row] = np.random.default_rng([self.seed, self.first + row])
        return self.numbers[row].random()
