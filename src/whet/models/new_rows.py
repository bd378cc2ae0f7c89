"""New rows of embeddings and head fitted on some texts, all else as it is."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

LEAST = 4
"""A token that is in the texts less often keeps its row: Adam would only push it away from every other word."""
_ROWS = 4  # a step
_RATE = 0.05  # of the embeddings' root mean square, a step


def fit_rows(
    net: Any,
    new: Sequence[int],
    rows: Sequence[list[int]],
    seed: int = 0,
    epochs: int = 2,
    done: Callable[[float], None] = lambda share: None,
) -> None:
    """Minimise the loss of `rows` (ids) over the rows of the new tokens alone, by Adam with a rate that falls to zero.
    Weights are float32. Tied embeddings stay so. `done` is told what share is behind after each step."""
    rows = [row for row in rows if len(row) > 1]
    counts: Counter[int] = Counter(token for row in rows for token in row[1:])
    tokens = [token for token in new if counts[token] >= LEAST]
    if not tokens:
        return
    inputs, head = net.get_input_embeddings(), net.get_output_embeddings()
    tied = inputs.weight.data_ptr() == head.weight.data_ptr()
    asked = [parameter for parameter in net.parameters() if parameter.requires_grad]
    net.requires_grad_(False)
    leaves = [inputs.weight[tokens].clone().requires_grad_()]
    leaves.append(leaves[0] if tied else head.weight[tokens].clone().requires_grad_())
    trained = leaves[:1] if tied else leaves
    rate = _RATE * float(inputs.weight.square().mean().sqrt())
    optimizer = torch.optim.Adam(trained, lr=rate, betas=(0.9, 0.95))
    draw = random.Random(seed)
    order = [place for _ in range(epochs) for place in draw.sample(range(len(rows)), len(rows))]
    with _in_place(inputs, head, tokens, *leaves):
        for begin in range(0, len(order), _ROWS):
            batch = [rows[place] for place in order[begin : begin + _ROWS]]
            targets = sum(len(row) - 1 for row in batch)
            for row in batch:
                ids = torch.tensor([row], device=inputs.weight.device)
                logits = net(input_ids=ids, use_cache=False).logits[0, :-1].float()
                (torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum") / targets).backward()
            for group in optimizer.param_groups:
                group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * begin / len(order)))
            optimizer.step()
            optimizer.zero_grad()
            done(min(1.0, (begin + _ROWS) / len(order)))
    with torch.no_grad():
        inputs.weight[tokens], head.weight[tokens] = leaves[0].detach(), leaves[1].detach()
    for parameter in asked:
        parameter.requires_grad_(True)


@contextmanager
def _in_place(
    inputs: Any, head: Any, tokens: Sequence[int], rows_in: torch.Tensor, rows_out: torch.Tensor
) -> Iterator[None]:
    """While it lasts, embeddings and logits of `tokens` are those of the given rows, so that only these need a
    gradient."""
    place = torch.full((inputs.weight.shape[0],), -1, device=inputs.weight.device)
    place[list(tokens)] = torch.arange(len(tokens), device=place.device)
    bias = getattr(head, "bias", None)

    def embed(_: Any, given: Any, embedded: torch.Tensor) -> torch.Tensor:
        at = place[given[0]]
        found = embedded.clone()
        scale = float(getattr(inputs, "embed_scale", 1.0))  # Gemma's embeddings multiply
        found[at >= 0] = rows_in[at[at >= 0]] * scale
        return found

    def predict(_: Any, given: Any, logits: torch.Tensor) -> torch.Tensor:
        own = given[0] @ rows_out.T
        return logits.index_copy(-1, place.new_tensor(list(tokens)), own if bias is None else own + bias[list(tokens)])

    hooks = [inputs.register_forward_hook(embed), head.register_forward_hook(predict)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
