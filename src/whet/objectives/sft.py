"""Supervised fine-tuning: make the answers in the data likely."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from whet.errors import RowError
from whet.objectives.contract import Loss, Rendered, Renderer
from whet.recipe import SFTPart
from whet.rows import Example, Row

if TYPE_CHECKING:
    import torch

# Who learns from a row of another shape.
_FITS = {
    "preference": "dpo, orpo and reward learn from `chosen` and `rejected`",
    "label": "kto learns from a `label`",
    "prompt": "grpo and ppo learn from prompts alone",
}


def rows(example: Example, renderer: Renderer, part: SFTPart) -> list[Row]:
    """The rows of one example: of a text one, of a conversation as many as its template asks for.

    Raises RowError for a shape that has nothing to imitate, and what the renderer raises.
    """
    return rows_of([example], renderer, part)[0]


def rows_of(
    examples: Sequence[Example], renderer: Renderer, part: SFTPart, progress: Callable[[int], None] | None = None
) -> list[list[Row]]:
    """`rows` of many, faster. `progress` is told how many conversations are done, now and then."""
    for example in examples:
        if example.shape not in ("conversation", "text"):
            raise RowError(
                f"sft cannot learn from a row of shape {example.shape!r}",
                where=example.place,
                do=f"{_FITS[example.shape]}; sft wants `messages`, `prompt` with `completion`, or `text`",
            )
    talks = [example for example in examples if example.shape == "conversation"]
    texts = [example for example in examples if example.shape == "text"]
    rendered_talks = iter(
        renderer.conversations([(e.messages, e.tools, e.place) for e in talks], learn=part.learn, progress=progress)
    )
    rendered_texts = iter(renderer.texts([(example.text, example.place) for example in texts]))
    return [
        [
            _row(example, rendered)
            for rendered in ([next(rendered_texts)] if example.shape == "text" else next(rendered_talks))
        ]
        for example in examples
    ]


def loss(logps_N: torch.Tensor, row_of_N: torch.Tensor, weights_R: torch.Tensor, part: SFTPart) -> Loss:
    """Negative log-likelihood of the targets, each times its row's weight.

    `logps_N` [N] float32: log p(target | its row so far), in nats. `row_of_N` [N]: its row, an index into `weights_R`
    [R]. `total` = -sum(w logp), `count` = sum(w): their quotient is the weighted mean over targets.
    """
    weights_N = weights_R[row_of_N]
    return Loss(total=-(weights_N * logps_N).sum(), count=float(weights_N.sum()))


def _row(example: Example, rendered: Rendered) -> Row:
    return Row(rendered.ids, rendered.targets, weight=example.weight, group=example.group, place=example.place)
