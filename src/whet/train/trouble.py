"""Signs of trouble while a policy learns from its own answers: collapse, and rewards that are won by a trick."""

from __future__ import annotations

from typing import Any

DECAY = 0.8
"""Of the moving averages: about five steps."""
SETTLED = 10
"""Steps before an average is compared with its start."""
LEAST_ENTROPY = 0.01
"""Nats a token; below it every answer is the same."""
FELL = 0.05
"""Share of its range that a watched grader may lose before it is said."""

Event = dict[str, Any]


def look(event: Event, memory: dict[str, Any], patience: int) -> tuple[str | None, str | None]:
    """(why to stop, what to warn of) after a step; `memory` is kept between steps and written with checkpoints.

    A run stops when the same sign was there for `patience` steps: all answers to each prompt are worth the same, so
    that nothing is learnt; every answer is cut and the reward no better than at the start; the reward has fallen below
    its start; answers have no variety left and the reward is falling.
    """
    reward = _average(memory, "reward", event["reward"])
    first = memory.setdefault("first_reward", reward)
    best = memory["best_reward"] = max(memory.get("best_reward", reward), reward)
    signs = {
        "the answers to each prompt are all worth the same, so nothing is learnt": event["equal_groups"] >= 1.0,
        "every answer is cut at objective.max_new_tokens, and the reward has not risen": event["cut"] >= 0.99
        and reward <= first,
        f"the reward has fallen below its start: {best:.3g} at best, {reward:.3g} now": reward < first < best,
        "answers have no variety left, and the reward falls": event.get("entropy", 1.0) < LEAST_ENTROPY
        and reward < best - 0.05 * abs(best - first),
    }
    runs = memory.setdefault("signs", [0] * len(signs))
    memory["signs"] = [run + 1 if there else 0 for run, there in zip(runs, signs.values(), strict=True)]
    stop = next((sign for sign, run in zip(signs, memory["signs"], strict=True) if run >= patience), None)
    return stop, _hacking(event, memory, reward, first)


def _hacking(event: Event, memory: dict[str, Any], reward: float, first: float) -> str | None:
    """Whether the reward rises while the watched grader falls; said once."""
    memory["steps"] = memory.get("steps", 0) + 1
    if "watched" not in event:
        return None
    watched = _average(memory, "watched", event["watched"])
    began = memory.setdefault("first_watched", watched)
    low = memory["least_watched"] = min(memory.get("least_watched", watched), event["watched"])
    high = memory["most_watched"] = max(memory.get("most_watched", watched), event["watched"])
    fell = began - watched > FELL * max(high - low, 1e-9) and began - watched > FELL * abs(began)
    if memory["steps"] < SETTLED or memory.get("warned") or not (reward > first and fell):
        return None
    memory["warned"] = True
    return (
        f"reward hacking? the reward rose from {first:.3g} to {reward:.3g} while the watched grader fell from "
        f"{began:.3g} to {watched:.3g}: look at the samples"
    )


def _average(memory: dict[str, Any], name: str, value: float) -> float:
    """Exponential moving average that begins at the first value."""
    before = memory.get(f"mean_{name}", value)
    memory[f"mean_{name}"] = DECAY * before + (1 - DECAY) * value
    return float(memory[f"mean_{name}"])
