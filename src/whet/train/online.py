"""The online loop: the model answers, graders say what the answers are worth, and it learns from that (PPO, GRPO).

    for each step: prompts -> answers -> grades -> advantages -> updates -> a line of metrics
                   now and then: evaluate on held-out prompts, keep the best, write a checkpoint

It is one function to read; what it calls is one storey down: `rollout` draws, grades and weighs, `engine` updates,
`trouble` looks for signs of collapse.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from whet.recipe import PolicyPart, PPOPart
from whet.rows import Row
from whet.train.engine import Engine, Step
from whet.train.offline import Position, check_number, end_step, signals, step_event
from whet.train.rollout import Asker, Graded, Scores, check_graded, divergences, learnable
from whet.train.schedule import Schedule
from whet.train.trouble import look

Sample = dict[str, Any]
SHOWN = 4
"""Held-out prompts whose answers are kept at each evaluation."""

ADAPT = 0.1
"""How fast beta follows the divergence: K_beta of Ziegler et al. 2019, arXiv 1909.08593, section 2.2."""


def online(
    engine: Engine,
    asker: Asker,
    prompts: Sequence[Row],
    reference: Scores | None,
    schedule: Schedule,
    position: Position,
    folder: Path,
    tell: Callable[[dict[str, Any]], None],
    note: Callable[[str], None],
    evaluate: Callable[[], dict[str, float]] | None,
) -> str | None:
    """Train from `position` to the end of `schedule`, whose steps are draws of answers. Returns why it stopped early,
    or None. Raises as `offline` does, and TrainingError where no answer of a step can be graded."""
    part, memory = asker.part, position.online
    engine.language_model.train()
    with signals() as asked:
        while position.step < schedule.total_steps:
            began = time.perf_counter()
            chosen = [prompts[i] for i in schedule.rows_of(position.step) for _ in range(part.num_generations)]
            rate, beta = schedule.learning_rate(position.step), memory.get("beta", part.beta)
            graded = asker.ask(chosen, seed=seed_of(schedule.part.seed, position.step))
            with engine.at_temperature(part.temperature):
                rows = learnable(graded, engine, reference, part, beta)
                seen, norm = learn(engine, with_beta(part, beta), rows, rate, position.step)
            seconds = time.perf_counter() - began
            position.add(seen, seconds)
            event = step_event(seen, position, schedule, rate, norm, seconds) | signs(graded, part)
            if reference is not None:
                event["kl_answer"] = float(divergences(rows).mean())
                memory["beta"] = event["beta"] = adapted(part, beta, event["kl_answer"])
            tell(event)
            stop, warning = look(event, memory, part.patience)
            if warning:
                note(warning)
            if stop := end_step(engine, position, schedule, folder, tell, evaluate, asked, stop):
                return stop
    return None


def learn(engine: Engine, part: Any, rows: Sequence[Row], rate: float, step: int) -> tuple[Step, float]:
    """All updates of one step. Returns what they saw: the mean loss, the first update's drift (nothing is learnt
    before it, so it is what sampler and trainer disagree by), the others' means; and the last gradient's norm."""
    engine.objective = part
    order = np.random.default_rng([engine.part.seed, step])
    seen: list[Step] = []
    for _ in range(part.num_iterations):
        for places in np.array_split(order.permutation(len(rows)), min(part.minibatches, len(rows))):
            chosen = [rows[place] for place in places]
            seen.append(engine.forward_backward(chosen))
            check_number(seen[-1].loss, "loss", step, chosen)
            norm = engine.optim_step(rate)
            check_number(norm, "gradient norm", step, chosen)
    metrics = {name: float(np.mean([one.metrics[name] for one in seen])) for name in seen[0].metrics}
    metrics["mismatch"] = seen[0].metrics["drift"]
    totals = {name: sum(getattr(one, name) for one in seen) for name in ("tokens", "computed_tokens", "target_tokens")}
    return Step(float(np.mean([one.loss for one in seen])), len(rows), **totals, metrics=metrics), norm


def signs(graded: Graded, part: PolicyPart) -> dict[str, float]:
    """What a step's answers, of which some have a grade, were like: rewards, by grader too; lengths in tokens; shares
    of answers that were cut, of answers without a grade, and of prompts whose answers are all worth the same."""
    scores_R, size = graded.scores, part.num_generations
    known = scores_R[~np.isnan(scores_R)]
    told = {
        "reward": float(known.mean()),
        "reward_deviation": float(known.std()),
        "length": float(np.mean([len(answer.ids) for answer in graded.answers])),
        "cut": float(np.mean([not answer.stopped for answer in graded.answers])),
        "ungraded": float(np.isnan(scores_R).mean()),
        "equal_groups": 0.0,
    }
    if size > 1:
        groups = [group[~np.isnan(group)] for group in scores_R.reshape(-1, size)]
        told["equal_groups"] = float(np.mean([len(np.unique(group)) < 2 for group in groups]))
    parts = sorted({name for grade in graded.grades for name in grade.parts})
    for name in parts if len(parts) > 1 else []:
        told[f"reward_{name}"] = float(np.mean([grade.parts[name] for grade in graded.grades if name in grade.parts]))
    watched = [grade.score for grade in graded.watched if grade.score is not None]
    return {**told, "watched": float(np.mean(watched))} if watched else told


def held_out(asker: Asker, prompts: Sequence[Row], keep: Callable[[list[Sample]], None]) -> dict[str, float]:
    """The likeliest answers to held-out prompts: their mean reward, and the other signs. "loss" is the reward's
    negative, so that the lowest is the best. `keep` gets the first few of them. Raises TrainingError where none can be
    graded."""
    graded = asker.ask(prompts, seed=0, greedy=True)
    check_graded(graded)
    shown = zip(graded.items[:SHOWN], graded.answers, graded.grades, strict=False)
    keep([{"prompt": item["prompt"], "answer": answer.text, "score": grade.score} for item, answer, grade in shown])
    told = signs(graded, asker.part.model_copy(update={"num_generations": 1}))
    told = {name: value for name, value in told.items() if name not in ("equal_groups", "reward_deviation")}
    return {"loss": -told["reward"], **told}


def adapted(part: PolicyPart, beta: float, divergence: float) -> float:
    """beta (1 + K e), where e = (divergence - target) / target within -0.2 and 0.2; beta where there is no target."""
    if not isinstance(part, PPOPart) or part.kl_target is None:
        return beta
    return beta * (1 + ADAPT * float(np.clip(divergence / part.kl_target - 1, -0.2, 0.2)))


def with_beta(part: PolicyPart, beta: float) -> PolicyPart:
    return part if beta == part.beta else part.model_copy(update={"beta": beta})


def seed_of(seed: int, step: int) -> int:
    """Of a step's draws, so that a resumed run draws what it would have drawn."""
    return (seed * 1_000_003 + step) % 2**31
