"""Preferences where nobody has written any: answers are sampled, and a grader says which is better."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whet.data import read
from whet.errors import RowError
from whet.graders import build
from whet.look import write_whole
from whet.models.reward import open_reward_models
from whet.recipe import DataPart
from whet.recipe.rlhf import PreferencesPart
from whet.rlhf.ask import answers
from whet.rows import Example
from whet.train.rollout import item_of


@dataclass(frozen=True)
class Judged:
    """What became of the prompts: pairs, prompts whose answers are all worth the same, answers without a grade."""

    pairs: int
    equal: int
    ungraded: int


def judged(model: str, part: PreferencesPart, path: Path, done: Callable[[int], None] = lambda answers: None) -> Judged:
    """Write `path`, a row for each prompt whose best and worst answer differ in score. Raises RowError without any."""
    assert part.grader is not None
    assert part.prompts is not None
    examples = read([DataPart(path=part.prompts)], "prompt")
    grader = build(part.grader, open_reward_models(part.grader))
    items = [item_of(example) for example in examples]
    grader.check(items)
    flat = answers(
        model,
        examples,
        part.answers,
        max_new_tokens=part.max_new_tokens,
        temperature=part.temperature,
        seed=part.seed,
        done=done,
    )
    grades = grader.grade([item for item in items for _ in range(part.answers)], flat)
    scores = [grade.score for grade in grades]
    rows, equal = [], 0
    for number, example in enumerate(examples):
        own = slice(number * part.answers, (number + 1) * part.answers)
        known = [(score, answer) for score, answer in zip(scores[own], flat[own], strict=True) if score is not None]
        best, worst = max(known, default=None), min(known, default=None)
        if best is None or worst is None or best[0] == worst[0]:
            equal += 1
            continue
        rows.append(_row(example, best, worst))
    if not rows:
        raise RowError(
            f"the answers to all {len(examples):,} prompts are worth the same to the grader: there is no preference",
            where=part.prompts,
            do="raise preferences.answers or preferences.temperature, or look at the grader with `whet grade`",
        )
    write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return Judged(len(rows), equal, sum(score is None for score in scores))


def _row(example: Example, best: tuple[float, str], worst: tuple[float, str]) -> dict[str, Any]:
    """Whole turns as the prompt, so that a system's words are kept."""
    return {
        "prompt": example.prompt,
        "chosen": best[1],
        "rejected": worst[1],
        "score_chosen": best[0],
        "score_rejected": worst[0],
    }
