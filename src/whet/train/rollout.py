"""From prompts to rows that can be learnt from: answers are drawn, graded, and given their advantages.

The answers to one prompt share it: it is computed once when they are drawn and once when they are learnt from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from whet.errors import TrainingError
from whet.graders import Grade, Grader, build
from whet.models.generate import Completion, sample
from whet.models.reward import open_reward_models
from whet.objectives import advantages
from whet.recipe import GRPOPart, PolicyPart, PPOPart
from whet.rows import Example, Row, given
from whet.tokens.template import Renderer
from whet.train.engine import Engine

Scores = Callable[[Sequence[Row]], list[torch.Tensor]]


@dataclass(frozen=True)
class Graded:
    """Answers to prompts, each with its item (the columns of its row) and its grade. `rows` are prompt and answer."""

    prompts: list[Row]  # as `objectives.policy.rows_of` makes them, one an answer
    items: list[dict[str, Any]]
    answers: list[Completion]
    grades: list[Grade]
    watched: list[Grade] = field(default_factory=list)

    @property
    def scores(self) -> np.ndarray:
        """[R] float64, NaN where an answer could not be graded."""
        return np.array([np.nan if grade.score is None else grade.score for grade in self.grades], np.float64)

    @property
    def faults(self) -> list[str]:
        return [grade.fault for grade in self.grades if grade.fault]


@dataclass(frozen=True)
class Asker:
    """Draws answers and has them graded. `items` are the columns of each row, by its place."""

    engine: Engine
    renderer: Renderer
    part: PolicyPart
    items: Mapping[str, dict[str, Any]]
    grader: Grader
    watch: Grader | None

    def ask(self, prompts: Sequence[Row], seed: int, greedy: bool = False) -> Graded:
        """An answer to each prompt: drawn at the recipe's temperature, or the likeliest."""
        model = self.engine.language_model.model
        ids = [prompt.ids[:-1].tolist() for prompt in prompts]
        answers = sample(
            model,
            self.renderer.tokenizer,
            ids,
            stop_ids=self.renderer.stop_ids,
            max_new_tokens=self.part.max_new_tokens,
            temperature=0.0 if greedy else self.part.temperature,
            seed=seed,
            logps=not greedy,
            places=[prompt.place for prompt in prompts],
        )
        items = [self.items[prompt.place] for prompt in prompts]
        texts = [answer.text for answer in answers]
        watched = list(self.watch.grade(items, texts)) if self.watch else []
        return Graded(list(prompts), items, answers, list(self.grader.grade(items, texts)), watched)


def asker_of(engine: Engine, renderer: Renderer, part: PolicyPart, examples: Sequence[Example]) -> Asker:
    """With its graders; the reward models that they name are opened on the engine's device. Raises RecipeError for a
    grader that asks for a column that no row has, RunError and ModelError for a reward model that cannot be opened."""
    items = {example.place: item_of(example) for example in examples}
    graders = []
    for grader in (part.grader, part.watch):
        if grader is not None:
            graders.append(build(grader, open_reward_models(grader, engine.device)))
            graders[-1].check(list(items.values()))
    return Asker(engine, renderer, part, items, graders[0], graders[1] if len(graders) > 1 else None)


def item_of(example: Example) -> dict[str, Any]:
    """What graders know of a row: its other columns, the prompt's last turn as `prompt`, all turns as `messages`, and
    its place, by which they name it."""
    last = example.prompt[-1].get("content") or ""
    own = {"id": example.id, "prompt": str(last), "messages": example.prompt}
    return {"place": example.place, **example.extra, **own}


def rows_of(graded: Graded) -> list[Row]:
    """Prompt and answer as a row, whose targets are the answer's tokens; "sampled" is what they were drawn with."""
    rows = []
    for prompt, answer in zip(graded.prompts, graded.answers, strict=True):
        ids = np.array([*prompt.ids[:-1], *answer.ids], np.int32)
        targets = np.arange(len(ids)) >= len(prompt) - 1
        sampled = np.array(answer.logps, np.float32)
        rows.append(Row(ids, targets, weight=prompt.weight, place=prompt.place, given={"sampled": sampled}))
    return rows


def learnable(graded: Graded, engine: Engine, reference: Scores | None, part: PolicyPart, beta: float) -> list[Row]:
    """The rows with what the objective must be given: advantages, and reference, value and return where it needs them.
    An answer without a grade takes no part: its row weighs nothing. Raises TrainingError where none has a grade."""
    check_graded(graded)
    rows, scores_R = rows_of(graded), graded.scores
    if reference is not None:
        rows = [given(row, reference=logps.numpy()) for row, logps in zip(rows, reference(rows), strict=True)]
    if isinstance(part, PPOPart):
        made = _by_values(rows, scores_R, engine, part, beta)
    else:
        made = _by_comparison(rows, scores_R, part, beta)
    return [replace(row, weight=0.0) if np.isnan(score) else row for row, score in zip(made, scores_R, strict=True)]


def check_graded(graded: Graded) -> None:
    """Raises TrainingError where no answer has a grade."""
    if np.isnan(graded.scores).all():
        why = graded.faults[0] if graded.faults else "no score"
        raise TrainingError(
            f"none of {len(graded.grades)} answers could be graded: {why}",
            do="look at the grader with `whet grade`; the last checkpoint is as it was",
        )


def _by_comparison(rows: list[Row], scores_R: np.ndarray, part: PolicyPart, beta: float) -> list[Row]:
    """One advantage for all tokens of an answer, from how it compares with the others."""
    rewards_R = scores_R - (beta * divergences(rows) if part.kl_in == "reward" and beta else 0.0)
    alike = [range(len(rows))] if part.kind == "reinforce++" else np.arange(len(rows)).reshape(-1, part.num_generations)
    advantages_R = np.zeros(len(rows))
    for places in alike:
        known = [place for place in places if not np.isnan(rewards_R[place])]
        advantages_R[known] = _compared(rewards_R[known], part)
    return [
        given(row, advantage=np.full(row.target_count, advantage, np.float32))
        for row, advantage in zip(rows, advantages_R, strict=True)
    ]


def _compared(rewards_K: np.ndarray, part: PolicyPart) -> np.ndarray:
    """Advantages of the answers that have a grade; one alone has nothing to be compared with."""
    if part.kind == "reinforce++":
        return advantages.over_batch(rewards_K)
    if len(rewards_K) < 2:
        return np.zeros(len(rewards_K))
    if isinstance(part, GRPOPart):
        return advantages.of_group(rewards_K[None], part.scale_rewards).ravel()
    return advantages.leave_one_out(rewards_K[None]).ravel()


def _by_values(rows: list[Row], scores_R: np.ndarray, engine: Engine, part: PPOPart, beta: float) -> list[Row]:
    """An advantage a token, from what the value head expects: the score comes with the last token, and with each one
    its divergence from the reference is taken off (Ziegler et al. 2019, arXiv 1909.08593, equation 2)."""
    values = [values_T.numpy().astype(np.float64) for values_T in engine.values(rows)]
    made = []
    for row, score, values_T in zip(rows, scores_R, values, strict=True):
        rewards_T = np.zeros(row.target_count)
        if "reference" in row.given and part.kl_in == "reward":
            rewards_T -= beta * (row.given["sampled"] - row.given["reference"])
        rewards_T[-1] += 0.0 if np.isnan(score) else score
        made.append(advantages.gae(rewards_T, values_T, part.gamma, part.lam))
    advantages_RT = [advantage_T for advantage_T, _ in made]
    if part.whiten_advantages:
        known = np.flatnonzero(~np.isnan(scores_R))
        for place, whitened in zip(known, advantages.whitened([advantages_RT[n] for n in known]), strict=True):
            advantages_RT[place] = whitened
    return [
        given(row, **{
            "advantage": advantage_T.astype(np.float32),
            "return": return_T.astype(np.float32),
            "value": values_T.astype(np.float32),
        })
        for row, advantage_T, (_, return_T), values_T in zip(rows, advantages_RT, made, values, strict=True)
    ]  # fmt: skip


def divergences(rows: Sequence[Row]) -> np.ndarray:
    """[R]: log p - log p_ref of each answer as it was drawn, in nats."""
    return np.array([float((row.given["sampled"] - row.given["reference"]).sum()) for row in rows])
