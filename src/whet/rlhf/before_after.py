"""Before and after on prompts that nothing was learnt from: what the grader says of both, and what it cost."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from whet.data import read
from whet.evaluate.compare import Difference, difference
from whet.evaluate.measure import mean_of
from whet.evaluate.run import evaluate
from whet.graders import build
from whet.graders.result import by_grader
from whet.models.reward import open_reward_models
from whet.recipe import DataPart
from whet.recipe.rlhf import ComparePart
from whet.rlhf.ask import answers
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
    texts = [answers(model, examples, max_new_tokens=part.max_new_tokens) for model in (before, after)]
    one, two = (by_grader(grader.name, grader.grade(items, side)) for side in texts)
    missing = np.full(len(items), math.nan)  # of a grader that failed on every answer of a side
    return Compared(
        len(examples),
        [
            difference(mean_of(name, one.get(name, missing).tolist()), mean_of(name, two.get(name, missing).tolist()))
            for name in {**one, **two}
        ],
        _perplexities(before, after, part.perplexity) if part.perplexity else None,
        _shown(items, texts, [one[grader.name].tolist(), two[grader.name].tolist()]),
    )


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
