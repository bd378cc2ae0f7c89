"""Before and after on prompts that nothing was learnt from: what the grader says of both, and what it cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from whet.data import read
from whet.evaluate.compare import Difference, difference
from whet.evaluate.measure import mean_of
from whet.evaluate.run import evaluate
from whet.graders import Grade, build
from whet.models.generate import sample
from whet.models.reward import open_reward_models
from whet.models.saved import open_run
from whet.recipe import DataPart
from whet.recipe.rlhf import ComparePart
from whet.tokens.template import Renderer
from whet.train.rollout import item_of

SHOWN = 8


@dataclass(frozen=True)
class Compared:
    """Differences of the grader's scores (and those of a multi's graders), both perplexities, and a few prompts with
    both answers."""

    prompts: int
    differences: list[Difference]
    perplexity: tuple[float, float] | None
    samples: list[dict[str, Any]] = field(default_factory=list)

    def tree(self) -> dict[str, Any]:
        """As JSON has it."""
        told = [{**asdict(one), "verdict": one.verdict} for one in self.differences]
        return {"prompts": self.prompts, "differences": told, "perplexity": self.perplexity, "samples": self.samples}


def compared(before: str, after: str, part: ComparePart) -> Compared:
    """Greedy answers of both, graded; both perplexities where rows are named for it."""
    examples = read([DataPart(path=part.prompts)], "prompt")
    items, grader = [item_of(example) for example in examples], build(part.grader, open_reward_models(part.grader))
    grader.check(items)
    texts: list[list[str]] = []
    grades: list[Sequence[Grade]] = []
    for model in (before, after):
        loaded = open_run(model)
        renderer = Renderer(loaded.tokenizer)
        found = sample(
            loaded.model,
            loaded.tokenizer,
            [renderer.prompt(example.prompt, example.tools, example.place) for example in examples],
            stop_ids=renderer.stop_ids,
            max_new_tokens=part.max_new_tokens,
            places=[example.place for example in examples],
        )
        texts.append([completion.text for completion in found])
        grades.append(grader.grade(items, texts[-1]))
    scores = [[math.nan if one.score is None else one.score for one in side] for side in grades]
    parts = sorted({name for side in grades for one in side for name in one.parts} - {grader.name})
    sides = {grader.name: scores} | {name: [[_of(one, name) for one in side] for side in grades] for name in parts}
    return Compared(
        len(examples),
        [difference(mean_of(name, one), mean_of(name, two)) for name, (one, two) in sides.items()],
        _perplexities(before, after, part.perplexity) if part.perplexity else None,
        _shown(items, texts, scores),
    )


def _of(grade: Grade, name: str) -> float:
    return grade.parts.get(name, math.nan)


def _perplexities(before: str, after: str, data: str) -> tuple[float, float]:
    one, two = (evaluate(model, data, ["perplexity"]) for model in (before, after))
    return _figure(one), _figure(two)


def _figure(evaluation: Any) -> float:
    measured = next(measured for measured in evaluation.measured if measured.name == "perplexity")
    return float(measured.value())


def _shown(items: list[dict[str, Any]], texts: list[list[str]], scores: list[list[float]]) -> list[dict[str, Any]]:
    """Prompts spread over the data."""
    places = np.random.default_rng(0).permutation(len(items))[:SHOWN]
    return [
        {
            "prompt": items[place]["prompt"],
            **{
                name: {
                    "text": texts[side][place],
                    "score": None if math.isnan(scores[side][place]) else scores[side][place],
                }
                for side, name in enumerate(("before", "after"))
            },
        }
        for place in sorted(int(place) for place in places)
    ]
