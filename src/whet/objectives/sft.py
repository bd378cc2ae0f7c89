"""Supervised fine-tuning: make the answers in the data likely."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from whet.errors import RowError
from whet.objectives.contract import Batch, Loss, Objective, Rendered, Renderer
from whet.recipe import SFTPart
from whet.rows import Example, Row

# Who learns from a row of another shape.
_FITS = {
    "preference": "dpo, orpo, simpo, cpo and reward learn from `chosen` and `rejected`",
    "label": "kto learns from a `label`",
    "prompt": "grpo, rloo, reinforce++ and ppo learn from prompts alone",
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


def counts(rows: Sequence[Row], part: SFTPart) -> dict[str, float]:
    """Targets, each times its row's weight."""
    return {"targets": sum(row.weight * row.target_count for row in rows)}


def loss(batch: Batch, part: SFTPart) -> Loss:
    """Negative log-likelihood, the weighted mean over targets: -sum(w logp) / sum(w)."""
    weights_N = batch.weights_R[batch.row_of_N]
    return Loss(-(weights_N * batch.logps_N).sum() / batch.step["targets"])


def _row(example: Example, rendered: Rendered) -> Row:
    return Row(rendered.ids, rendered.targets, weight=example.weight, group=example.group, place=example.place)


SFT = Objective(rows_of, counts, loss)
