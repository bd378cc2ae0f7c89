"""Preference rows that teach nothing or are too long: named, counted, and as the recipe says stopped at or left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from whet.errors import PreflightError, RowError
from whet.recipe import Recipe
from whet.rows import with_companions
from whet.train.preflight import check
from whet.train.run import run
from whet.train.start import Rows, open_rows

LONG = "so " + "the cat and the dog " * 30
PAIRS: dict[str, tuple[dict[str, Any], str]] = {
    "same": ({"prompt": "which?", "chosen": "the mat", "rejected": "the mat"}, "chosen and rejected are the same"),
    "no chosen": ({"prompt": "which?", "chosen": "", "rejected": "the mat"}, "chosen is empty"),
    "no rejected": ({"prompt": "which?", "chosen": "the mat", "rejected": " \n"}, "rejected is empty"),
    "same beyond": (
        {"prompt": "which?", "chosen": f"{LONG} sat", "rejected": f"{LONG} lay"}, "all of it lies beyond 96 tokens",
    ),
    "long prompt": (
        {"prompt": LONG, "chosen": "sat", "rejected": "lay"}, "all of it lies beyond 96 tokens",
    ),
    "no weight": ({"prompt": "which?", "chosen": "sat", "rejected": "lay", "weight": 0}, "the row has weight 0"),
}  # fmt: skip


def opened(recipe: Recipe) -> Rows:
    rows = open_rows(recipe)
    check(rows.prepared.ledger, recipe)
    return rows


@pytest.mark.parametrize("kind", ["dpo", "orpo", "reward"])
@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_that_teaches_nothing_is_named(
    objective_recipe: Callable[..., Recipe], tmp_path: Path, kind: str, name: str
) -> None:
    row, reason = PAIRS[name]
    recipe = objective_recipe(kind, extra=[row], validation=0)
    with pytest.raises(PreflightError, match=rf"1 of 21 training rows .*preference\.jsonl:21 \({reason}\)") as caught:
        run(recipe, quiet=True)
    assert caught.value.exit_code == 2
    assert "preflight.nothing_to_learn=drop" in str(caught.value.do)
    assert not (tmp_path / "run").exists()


def test_pairs_that_teach_nothing_are_left_out_where_the_recipe_says_so(
    objective_recipe: Callable[..., Recipe],
) -> None:
    extra = [row for row, _ in PAIRS.values()]
    lax = {"nothing_to_learn": "drop", "max_loss_share": 0.5}
    done = run(objective_recipe("dpo", extra=extra, validation=0, preflight=lax), quiet=True)
    ledger = json.loads((done.folder / "preflight.json").read_text())["train"]
    assert (ledger["read"], ledger["kept"], ledger["nothing_to_learn"], ledger["sequences"]) == (26, 20, 6, 40)
    assert len(ledger["nothing_to_learn_first"]) == 5
    assert done.summary["steps"] == 4


def test_of_a_pair_that_is_too_long_both_answers_are_cut_or_both_dropped(
    objective_recipe: Callable[..., Recipe],
) -> None:
    """Also where one of them would fit: a pair is learnt from as one."""
    long = [
        {"prompt": "which?", "chosen": LONG, "rejected": "the mat"},
        {"prompt": "which?", "chosen": "the mat", "rejected": LONG},
        {"prompt": "which?", "chosen": f"the cat {LONG}", "rejected": f"the dog {LONG}"},
    ]
    found = {}
    for way in ("cut", "drop"):
        part = {"too_long": way, "max_loss_share": 0.2}
        prepared = opened(objective_recipe("dpo", extra=long, validation=0, preflight=part)).prepared
        found[way] = prepared.ledger.train
        assert all(row.companions for row in prepared.train)
        assert max(len(row) for row in with_companions(prepared.train)[0]) <= 96
        if way == "cut":
            sizes = [[len(one) for one in with_companions([row])[0]] for row in prepared.train[-3:]]
            assert [size == 96 for pair in sizes for size in pair] == [True, False, False, True, True, True]
    assert (found["cut"].kept, found["cut"].cut.rows, found["cut"].dropped.rows) == (23, 3, 0)
    assert (found["drop"].kept, found["drop"].cut.rows, found["drop"].dropped.rows) == (20, 0, 3)
    with pytest.raises(PreflightError, match=r"3 of 23 training rows .*preference\.jsonl:21"):
        opened(objective_recipe("dpo", extra=long, validation=0))


def test_a_reward_that_would_be_read_beyond_the_length_is_named(objective_recipe: Callable[..., Recipe]) -> None:
    """Cut there is no end to read it at; dropped is dropped."""
    long = [{"prompt": "which?", "chosen": LONG, "rejected": "the mat"}]
    with pytest.raises(PreflightError, match=r"preference\.jsonl:21 \(all of it lies beyond 96 tokens\)"):
        opened(objective_recipe("reward", extra=long, validation=0))
    drop = {"too_long": "drop", "max_loss_share": 0.2}
    prepared = opened(objective_recipe("reward", extra=long, validation=0, preflight=drop)).prepared
    assert (prepared.ledger.train.kept, prepared.ledger.train.dropped.rows) == (20, 1)


# --- kto: the companion is no answer of the row's -----------------------------


def test_two_labelled_answers_that_are_the_same_are_both_learnt(objective_recipe: Callable[..., Recipe]) -> None:
    """Labels such as yes and no repeat: then the companion is the row again, and that is no fault."""
    same = [{"prompt": "is it?", "completion": "yes", "label": True}] * 2
    same += [{"prompt": "is it?", "completion": "no", "label": number > 0} for number in range(2)]
    prepared = opened(objective_recipe("kto", extra=same, validation=0)).prepared
    assert (prepared.ledger.train.kept, prepared.ledger.train.lost) == (24, 0)
    assert [row.role for row in prepared.train[-4:]] == ["good", "good", "bad", "good"]


@pytest.mark.parametrize("way", ["cut", "drop"])
def test_a_long_answer_costs_its_own_row_and_no_other(objective_recipe: Callable[..., Recipe], way: str) -> None:
    """It is the companion of the row before, which is short and is kept whole; the companion is cut."""
    extra = [{"prompt": "which?", "completion": LONG, "label": True}]
    part = {"too_long": way, "max_loss_share": 0.2}
    prepared = opened(objective_recipe("kto", extra=extra, validation=0, preflight=part)).prepared
    side = prepared.ledger.train
    assert (side.read, side.cut.rows, side.dropped.rows) == (21, int(way == "cut"), int(way == "drop"))
    before = prepared.train[19]
    assert before.place.endswith("label.jsonl:20")
    assert [len(other) for other in before.companions] == [96]
    assert all(row.companions[0].target_count for row in prepared.train)
    assert max(len(row) for row in with_companions(prepared.train)[0]) <= 96


def test_an_empty_completion_is_named_and_left_out(objective_recipe: Callable[..., Recipe]) -> None:
    extra = [{"prompt": "which?", "completion": "", "label": True}]
    with pytest.raises((PreflightError, RowError), match=r"label\.jsonl:21") as caught:
        opened(objective_recipe("kto", extra=extra, validation=0))
    assert "empty" in str(caught.value)
    lax = {"nothing_to_learn": "drop", "max_loss_share": 0.5}
    prepared = opened(objective_recipe("kto", extra=extra, validation=0, preflight=lax)).prepared
    assert (prepared.ledger.train.kept, prepared.ledger.train.nothing_to_learn.rows) == (20, 1)


def test_one_label_alone_is_refused_after_what_is_left_out(objective_recipe: Callable[..., Recipe]) -> None:
    recipe = objective_recipe("kto", validation=0)
    path = Path(recipe.data[0].path)
    good = [{"prompt": "which?", "completion": f"the mat {number}", "label": True} for number in range(3)]
    path.write_text("\n".join(map(json.dumps, [*good, {"prompt": "which?", "completion": "", "label": False}])))
    with pytest.raises(RowError, match=r"label\.jsonl:1: all 3 answers are good"):
        opened(recipe)


def test_prompts_that_leave_no_room_are_named(objective_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(PreflightError, match=r"prompt\.jsonl:21 \(all of it lies beyond 96 tokens\)"):
        opened(objective_recipe("grpo", extra=[{"prompt": LONG}], validation=0))
