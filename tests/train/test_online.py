"""The online loop: it learns, it says what it saw, and it is honest about answers that nobody could grade."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from whet.errors import RecipeError, TrainingError
from whet.graders import Grade
from whet.models.generate import Completion
from whet.recipe import GRPOPart, PPOPart, Recipe, ReinforcePart, RLOOPart
from whet.rows import Row, read_at_end
from whet.train.online import adapted, signs
from whet.train.rollout import Graded, divergences, learnable
from whet.train.run import run
from whet.train.trouble import LEAST_ENTROPY, SETTLED, look

NAMES = {
    "step", "epoch", "loss", "learning_rate", "grad_norm", "rows", "tokens", "computed_tokens", "target_tokens",
    "tokens_per_second", "seconds", "entropy", "clipped", "drift", "mismatch", "reward", "reward_deviation", "length",
    "cut", "ungraded", "equal_groups",
}  # fmt: skip


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def steps(folder: Path) -> list[dict[str, Any]]:
    return [line for line in lines(folder) if "loss" in line]


@pytest.fixture
def grader(tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """grader("return [...]"): a function of `completions` and `columns`, by its body."""

    def make(body: str) -> dict[str, Any]:
        path = tmp_path / "own.py"
        path.write_text(f"def own(completions, **columns):\n    {body}\n")
        return {"grader": {"type": "function", "function": f"{path}:own"}}

    return make


LEARNING = {"batch_size": 16, "max_steps": 16, "learning_rate": 2e-2, "lr_scheduler_type": "constant"}


@pytest.mark.parametrize("kind", ["grpo", "rloo", "reinforce++", "ppo"])
def test_the_reward_rises(objective_recipe: Callable[..., Recipe], kind: str) -> None:
    """Share of letters from a to j; drawn anew each step, so the first and the last four steps are compared."""
    more = {"ppo": {"num_iterations": 2, "minibatches": 2}, "grpo": {"beta": 0.0}}
    objective = {"beta": 0.001, **more.get(kind, {})}
    done = run(objective_recipe(kind, objective=objective, train=LEARNING), quiet=True)
    told = steps(done.folder)
    rewards = [event["reward"] for event in told]
    assert np.mean(rewards[-4:]) > np.mean(rewards[:4]) + 0.1
    assert done.summary["after"]["reward"] > done.summary["before"]["reward"]
    reference = {"kl", "kl_answer", "beta"} if kind != "grpo" else set()
    values = {"value_error"} if kind == "ppo" else set()
    for event in told:
        assert event.keys() == NAMES | reference | values
        assert 0 <= event["reward"] <= 1
        assert event["length"] <= 6
        assert (event["rows"], event["ungraded"]) == (16, 0.0)
        assert event["mismatch"] < 1e-4
    held_out = next(line["evaluation"] for line in lines(done.folder))
    assert held_out.keys() == {"loss", "reward", "length", "cut", "ungraded"}
    assert held_out["loss"] == -held_out["reward"]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_at_any_temperature_the_first_update_sees_what_was_sampled(
    objective_recipe: Callable[..., Recipe], method: str
) -> None:
    """Sampler, trainer and reference are all at 0.6: at the start nothing has drifted, and nothing diverges."""
    part = {"temperature": 0.6, "beta": 0.1, "num_iterations": 2}
    told = steps(run(objective_recipe("grpo", method=method, objective=part), quiet=True).folder)
    assert all(event["mismatch"] < 1e-4 for event in told)
    assert [told[0]["kl"], told[0]["kl_answer"]] == pytest.approx([0.0, 0.0], abs=1e-4)
    assert told[-1]["kl"] > 1e-4


NO_CATS = {
    "raises": "assert 'cat' not in columns['animal']\n    return [len(text) for text in completions]",
    "NaN": "return [float('nan') if a == 'cat' else len(t) for a, t in zip(columns['animal'], completions)]",
    "None": "return [None if a == 'cat' else len(t) for a, t in zip(columns['animal'], completions)]",
}


@pytest.mark.parametrize("fault", NO_CATS)
@pytest.mark.parametrize("kind", ["grpo", "ppo"])
def test_answers_that_cannot_be_graded_are_counted_and_the_run_goes_on(
    objective_recipe: Callable[..., Recipe], grader: Callable[[str], dict[str, Any]], kind: str, fault: str
) -> None:
    """Of 20 rows, two a step, three are about cats: they have no grade, and all others keep theirs."""
    objective = grader(NO_CATS[fault]) | {"num_iterations": 1}
    done = run(objective_recipe(kind, objective=objective, validation=0, train={"max_steps": 10}), quiet=True)
    told = [event["ungraded"] for event in steps(done.folder)]
    assert set(told) == {0.0, 0.5}
    assert sum(told) == 3 * 0.5


def test_where_nothing_can_be_graded_the_run_stops_and_says_why(
    objective_recipe: Callable[..., Recipe], grader: Callable[[str], dict[str, Any]]
) -> None:
    for validation in (0, 0.2):
        recipe = objective_recipe(
            "grpo", f"run{validation}", objective=grader("raise KeyError('answer')"), validation=validation
        )
        with pytest.raises(TrainingError, match=r"answers could be graded: .*prompt\.jsonl:\d+: KeyError") as caught:
            run(recipe, quiet=True)
        assert caught.value.exit_code == 2
        assert "whet grade" in str(caught.value.do)


def test_rewards_that_are_all_equal_stop_the_run(
    objective_recipe: Callable[..., Recipe], grader: Callable[[str], dict[str, Any]]
) -> None:
    objective = grader("return [1.0] * len(completions)") | {"patience": 3}
    done = run(objective_recipe("grpo", objective=objective, train={"max_steps": 9}), quiet=True)
    assert [event["equal_groups"] for event in steps(done.folder)] == [1.0] * 3
    kept = json.loads((done.folder / "summary.json").read_text())
    assert kept["status"] == "finished"
    assert "all worth the same" in kept["stopped_because"]
    assert (done.folder / "adapter" / "adapter_model.safetensors").is_file()


def test_answers_that_cannot_be_divided_among_prompts_are_refused(
    objective_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    for size in (6, 2):
        with pytest.raises(RecipeError, match=f"{size} answers a step cannot be 4 to each prompt") as caught:
            run(objective_recipe("grpo", train={"batch_size": size}), quiet=True)
        assert (caught.value.where, caught.value.exit_code) == ("train.batch_size", 2)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("part", "fault"),
    [
        ({"kind": "grpo", "num_generations": 1}, "num_generations must be 2 or more"),
        ({"kind": "rloo", "num_generations": 1}, "num_generations must be 2 or more"),
        ({"kind": "ppo", "kl_target": 1.0, "beta": 0.0}, "must begin above 0"),
        ({"kind": "grpo", "grader": {"type": "number", "reference": "{{item.anser}}"}}, "no row has a column 'anser'"),
    ],
    ids=["grpo", "rloo", "ppo", "grader"],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(
    objective_recipe: Callable[..., Recipe], part: dict[str, Any], fault: str
) -> None:
    with pytest.raises(RecipeError, match=fault):
        run(objective_recipe(part["kind"], objective=part), quiet=True)


def test_the_last_step_of_an_epoch_may_have_fewer_answers_than_minibatches(
    objective_recipe: Callable[..., Recipe],
) -> None:
    """15 or 16 prompts, 7 a step: the third step has a prompt or two, for 14 minibatches."""
    recipe = objective_recipe(
        "ppo", objective={"num_generations": 1, "num_iterations": 1, "minibatches": 7},
        train={"batch_size": 7, "max_steps": 3},
    )  # fmt: skip
    told = steps(run(recipe, quiet=True).folder)
    assert [event["rows"] for event in told] == [7, 7, 2]


def test_each_updates_rows_are_all_of_the_step_once_an_iteration(objective_recipe: Callable[..., Recipe]) -> None:
    part = {"num_iterations": 3, "minibatches": 2}
    told = steps(run(objective_recipe("grpo", objective=part, train={"max_steps": 2}), quiet=True).folder)
    once = steps(run(objective_recipe("grpo", "once", train={"max_steps": 2}), quiet=True).folder)
    assert told[0]["target_tokens"] == 3 * once[0]["target_tokens"]
    assert told[0]["rows"] == once[0]["rows"] == 8
    assert told[1]["drift"] > told[1]["mismatch"], "the first update sees what was sampled, the later ones do not"


# --- from grades to rows ------------------------------------------------------


def graded(scores: list[float | None], lengths: list[int] | None = None) -> Graded:
    lengths = lengths or [2] * len(scores)
    prompt = Row(*read_at_end(np.arange(5, dtype=np.int32)), place="a:1")
    answers = [Completion([9] * length, "x", True, [-1.0] * length) for length in lengths]
    grades = [Grade(score, {"own": score} if score is not None else {}, None if score is not None else "own: broke")
              for score in scores]  # fmt: skip
    return Graded([prompt] * len(scores), [{}] * len(scores), answers, grades)


GRADER = {"type": "length", "max": 3}
SCORES = [1.0, None, 3.0, 2.0, 2.0, None, None, 5.0, None]
ROOT = 1 / (2**0.5 + 1e-4)
BATCH = np.array([1.0, 3.0, 2.0, 2.0, 5.0])


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (GRPOPart(grader=GRADER, num_generations=3), [-ROOT, ROOT, 0.0, 0.0, 0.0]),
        (GRPOPart(grader=GRADER, num_generations=3, scale_rewards=False), [-1.0, 1.0, 0.0, 0.0, 0.0]),
        (RLOOPart(grader=GRADER, num_generations=3, beta=0), [-2.0, 2.0, 0.0, 0.0, 0.0]),
        (ReinforcePart(grader=GRADER, beta=0), ((BATCH - 2.6) / (BATCH.std(ddof=1) + 1e-4)).tolist()),
    ],
    ids=["grpo", "dr grpo", "rloo", "reinforce++"],
)
def test_an_answer_without_a_grade_weighs_nothing_and_moves_no_other(part: Any, expected: list[float]) -> None:
    """As if it had not been drawn; one that is left alone has nothing to be compared with."""
    rows = learnable(graded(SCORES), None, None, part, 0.0)  # type: ignore[arg-type]
    known = [row for row, score in zip(rows, SCORES, strict=True) if score is not None]
    assert [row.weight for row in rows] == [0.0 if score is None else 1.0 for score in SCORES]
    assert [float(row.given["advantage"][0]) for row in known] == pytest.approx(expected)
    assert all(np.isfinite(row.given["advantage"]).all() for row in rows)


def test_the_divergence_is_taken_off_the_reward() -> None:
    """Answers of 2 tokens: log p is -2, log p_ref -2.5 and -4: 0.5 and 2 nats, at beta 1/2."""
    reference = lambda rows: [torch.tensor(each) for each in ([-1.0, -1.5], [-3.0, -1.0])]  # noqa: E731
    part = RLOOPart(grader=GRADER, num_generations=2)
    rows = learnable(graded([1.0, 1.0]), None, reference, part, 0.5)  # type: ignore[arg-type]
    assert divergences(rows).tolist() == [0.5, 2.0]
    assert [row.given["advantage"].tolist() for row in rows] == [[0.75, 0.75], [-0.75, -0.75]]
    other = learnable(graded([1.0, 1.0]), None, reference, part.model_copy(update={"kl_in": "loss"}), 0.5)  # type: ignore[arg-type]
    assert [row.given["advantage"].tolist() for row in other] == [[0.0, 0.0]] * 2


class Values:
    """What an engine's value head says: 0.5 before each token."""

    @staticmethod
    def values(rows: list[Row]) -> list[torch.Tensor]:
        return [torch.full((row.target_count,), 0.5) for row in rows]


def test_ppos_score_comes_with_the_last_token_and_its_divergence_with_each() -> None:
    """gamma = lam = 1: an advantage is all that is still to come, less 0.5."""
    part = PPOPart(grader=GRADER, gamma=1.0, lam=1.0, whiten_advantages=False)
    reference = lambda rows: [torch.tensor([-1.0, -1.5, -3.0])]  # noqa: E731
    (row,) = learnable(graded([2.0], [3]), Values(), reference, part, 0.1)  # type: ignore[arg-type]
    assert row.given["return"].tolist() == pytest.approx([1.75, 1.75, 1.8])
    assert row.given["advantage"].tolist() == pytest.approx([1.25, 1.25, 1.3])
    assert row.given["value"].tolist() == [0.5] * 3


def test_ppo_whitens_over_answers_that_have_a_grade() -> None:
    part = PPOPart(grader=GRADER, gamma=1.0, lam=1.0)
    rows = learnable(graded([2.0, None, 4.0], [1, 5, 1]), Values(), None, part, 0.0)  # type: ignore[arg-type]
    assert [float(rows[place].given["advantage"][0]) for place in (0, 2)] == pytest.approx([-1.0, 1.0])
    assert [row.weight for row in rows] == [1.0, 0.0, 1.0]


def test_signs_of_a_step() -> None:
    """Groups of 3: of the first two are equal, the second has two unlike, the third none that is known."""
    found = graded([0.0, None, 0.0, 1.0, 3.0, None, None, None, None], [1, 2, 3] * 3)
    part = GRPOPart(grader=GRADER, num_generations=3)
    assert signs(found, part) == pytest.approx({
        "reward": 1.0, "reward_deviation": 1.5**0.5, "length": 2.0, "cut": 0.0, "ungraded": 5 / 9,
        "equal_groups": 2 / 3,
    })  # fmt: skip
    both = replace(found, grades=[Grade(0.5, {"sum": 0.5, "one": 1.0, "two": float(n)}) for n in range(9)])
    told = signs(both, part)
    assert (told["reward_sum"], told["reward_one"], told["reward_two"]) == (0.5, 1.0, 4.0)
    same = graded([1.0, 1.0, None])
    assert signs(same, part)["equal_groups"] == 1.0, "a missing grade makes no difference to learn from"


# --- signs of trouble ---------------------------------------------------------


def looked(events: list[dict[str, Any]], patience: int = 3) -> tuple[list[str | None], list[str]]:
    """Why to stop after each event, and all warnings."""
    memory: dict[str, Any] = {}
    told = []
    for event in events:
        usual = {"reward": 0.5, "equal_groups": 0.0, "cut": 0.0, "entropy": 1.0}
        told.append(look(usual | event, memory, patience))
        memory = json.loads(json.dumps(memory))  # as a checkpoint keeps it
    return [stop for stop, _ in told], [warning for _, warning in told if warning]


def test_nothing_is_said_of_a_run_that_learns() -> None:
    rising = [{"reward": step / 50, "watched": step / 50, "entropy": 1 - step / 60} for step in range(50)]
    assert looked(rising) == ([None] * 50, [])


def test_a_sign_must_be_there_for_as_long_as_patience_says() -> None:
    same, other = {"equal_groups": 1.0}, {"equal_groups": 0.9}
    stops, _ = looked([same, same, other, same, same, same])
    assert [bool(stop) for stop in stops] == [False] * 5 + [True]
    assert "all worth the same" in str(stops[-1])


def test_all_answers_cut_stops_only_where_the_reward_has_not_risen() -> None:
    assert "max_new_tokens" in str(looked([{"cut": 1.0}] * 3)[0][-1])
    assert looked([{"cut": 1.0, "reward": 0.1 * step} for step in range(1, 9)])[0] == [None] * 8


def test_a_reward_that_falls_below_its_start_stops() -> None:
    rewards = [0.5, 0.9, 0.9, *[0.0] * 12]
    stops, _ = looked([{"reward": reward} for reward in rewards])
    smooth, best = 0.5, 0.5  # a moving average, 0.8 of what was
    below: list[bool] = []
    for reward in rewards:
        smooth = 0.8 * smooth + 0.2 * reward
        best = max(best, smooth)
        below.append(smooth < 0.5)
    third = next(place for place in range(len(below)) if below[place - 2 : place + 1] == [True] * 3)
    assert [bool(stop) for stop in stops[: third + 1]] == [False] * third + [True]
    assert f"{best:.3g} at best" in str(stops[third])
    assert looked([{"reward": 0.5 - 0.01 * step} for step in range(9)])[0] == [None] * 9, "it never was above it"


def test_answers_without_variety_stop_where_the_reward_falls() -> None:
    narrow = {"entropy": LEAST_ENTROPY / 2}
    rising = [{"reward": 0.1 * step} for step in range(8)]
    assert looked([event | narrow for event in rising])[0] == [None] * 8
    falling = [*rising, *[{"reward": 0.1} | narrow] * 9]
    assert "no variety" in str(next(stop for stop in looked(falling)[0] if stop))


def test_a_reward_that_rises_while_the_watched_one_falls_is_said_once() -> None:
    events = [{"reward": 0.02 * step, "watched": 0.8 - 0.02 * step} for step in range(30)]
    stops, warnings = looked(events)
    assert stops == [None] * 30, "it is a warning, and the run goes on"
    assert len(warnings) == 1
    assert "reward hacking" in warnings[0]
    assert looked(events[: SETTLED - 1])[1] == [], "an average needs some steps before it says something"
    assert looked([event | {"watched": 0.8 + 0.01 * (-1) ** n} for n, event in enumerate(events)])[1] == []
    assert looked([event | {"reward": 0.5} for event in events])[1] == [], "both must move"


def test_a_watched_grader_is_told_and_not_learnt_from(objective_recipe: Callable[..., Recipe]) -> None:
    watch = {"type": "length", "unit": "characters", "max": 4}
    plain, watched = (
        steps(run(objective_recipe("grpo", name, objective=more), quiet=True).folder)
        for name, more in (("plain", {}), ("watched", {"watch": watch}))
    )
    assert all("watched" in event for event in watched)
    assert [event["loss"] for event in plain] == [event["loss"] for event in watched]


def test_beta_follows_the_divergence_at_a_tenth_of_what_it_is_off_by() -> None:
    """Ziegler et al. 2019, section 2.2: the error within -0.2 and 0.2, K = 0.1."""
    part = PPOPart(grader=GRADER, kl_target=2.0)
    for divergence, expected in ((2.2, 0.101), (2.0, 0.1), (50.0, 0.102), (-1.0, 0.098), (1.9, 0.0995)):
        assert adapted(part, 0.1, divergence) == pytest.approx(expected)
    assert adapted(PPOPart(grader=GRADER), 0.1, 50.0) == 0.1
    assert adapted(GRPOPart(grader=GRADER, beta=0.1), 0.1, 50.0) == 0.1


def test_beta_is_adapted_from_step_to_step(objective_recipe: Callable[..., Recipe]) -> None:
    part = {"kl_target": 1e-3, "beta": 0.05, "num_iterations": 1}
    told = steps(run(objective_recipe("ppo", objective=part), quiet=True).folder)
    beta = 0.05
    for event in told:
        beta *= 1 + 0.1 * float(np.clip(event["kl_answer"] / 1e-3 - 1, -0.2, 0.2))
        assert event["beta"] == pytest.approx(beta)
