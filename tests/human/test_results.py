"""From a log written by hand to rows and figures counted by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from whet.data.read import read
from whet.errors import RunError
from whet.human.folder import Review, create
from whet.human.log import Judgement, Log
from whet.human.page import write
from whet.human.pairs import read_answers, read_pairs, said
from whet.human.plan import Question
from whet.human.results import summed_up
from whet.recipe import DataPart


def judge(review: Review, said_by: Sequence[tuple[str, int, Any]], **more: Any) -> None:
    """Write judgements: (judge, number of the item, the answer preferred or a verdict)."""
    items = list(review.items)
    log = Log(review.log)
    for name, number, verdict in said_by:
        if verdict in (0, 1):
            verdict = "left" if verdict == 0 else "right"  # with answer 0 at the left
        log.add(Judgement("2026-01-01T00:00:00+00:00", name, items[number], verdict, 0, **more)).result()
    log.close()


def test_preferences_are_read_by_training(make_review: Callable[..., Review]) -> None:
    review = make_review(5)
    judge(review, [("anna", 0, 0), ("ben", 0, 0), ("anna", 1, 1), ("ben", 1, 0), ("anna", 2, "tie"),
                   ("anna", 3, "both_bad"), ("anna", 4, "skip")])  # fmt: skip
    found = summed_up(review)
    write(found)
    path = review.folder / "results" / "preferences.jsonl"
    examples = read([DataPart(path=str(path))], "dpo")
    items = list(review.items.values())
    assert [(e.shape, said(e.prompt), said(e.chosen), said(e.rejected)) for e in examples] == [
        ("preference", said(item.prompt), said(item.answers[better]), said(item.answers[1 - better]))
        for item, better in [(items[0], 0), (items[0], 0), (items[1], 1), (items[1], 0)]
    ]
    assert [(e.extra["judge"], e.extra["votes"]) for e in examples] == [
        ("anna", {"for": 2, "against": 0}), ("ben", {"for": 2, "against": 0}),
        ("anna", {"for": 1, "against": 1}), ("ben", {"for": 1, "against": 1}),
    ]  # fmt: skip
    assert found.counts == {
        "tie": 1, "both_bad": 1, "skip": 1, "edits": 0, "empty": 0, "judgements": 7, "replaced": 0
    }  # fmt: skip
    assert "no preference comes of 1 ties, 1 both bad, 1 skipped of 7 judgements" in found.notes


def test_what_was_judged_trains(make_review: Callable[..., Review], tmp_path: Path) -> None:
    import whet

    review = make_review(8)
    judge(review, [("anna", number, number % 2) for number in range(8)])
    write(summed_up(review))
    run = whet.train(
        "whet-tiny",
        str(review.folder / "results" / "preferences.jsonl"),
        objective="dpo",
        validation=0.25,
        train={"max_steps": 6, "batch_size": 6, "learning_rate": 1e-3},
        samples=0,
        output=str(tmp_path / "run"),
        quiet=True,
    )
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    margins = [line["margin"] for line in lines if "margin" in line]
    assert margins[0] == 0.0
    assert margins[-1] > 0.1
    assert run.summary["rows"] == 36


def test_conversations_and_tools_come_out_as_they_went_in(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "p"}]
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    call = [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}],
        }
    ]
    row = {"prompt": turns, "chosen": call, "rejected": "no", "tools": tools}
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(row) + "\n")
    review = create(tmp_path / "review", read_pairs(str(path), {}), ["anna"], attention=0)
    judge(review, [("anna", 0, 0)])
    write(summed_up(review))
    [before] = read([DataPart(path=str(path))], "dpo")
    [after] = read([DataPart(path=str(review.folder / "results" / "preferences.jsonl"))], "dpo")
    assert (after.prompt, after.chosen, after.rejected, after.tools) == (
        before.prompt, before.chosen, before.rejected, before.tools
    )  # fmt: skip


def test_an_edit_is_preferred_to_what_it_was_made_of(make_review: Callable[..., Review]) -> None:
    review = make_review(2)
    judge(review, [("anna", 0, 1)], edits={"1": "mended"})
    judge(review, [("anna", 1, "both_bad")], edits={"0": "written anew"})
    rows = summed_up(review).preferences
    items = list(review.items.values())
    assert [(row["chosen"], row["rejected"], row.get("edited", False)) for row in rows] == [
        (said(items[0].answers[1]), said(items[0].answers[0]), False),
        ("mended", said(items[0].answers[1]), True),
        ("written anew", said(items[1].answers[0]), True),
    ]


def test_the_later_judgement_of_a_pair_replaces_and_it_is_said(make_review: Callable[..., Review]) -> None:
    review = make_review(2)
    judge(review, [("anna", 0, 0), ("anna", 1, 0), ("anna", 0, 1), ("anna", 0, 1)])
    found = summed_up(review)
    assert [(match.won, match.lost) for match in found.matches] == [(1, 1)]
    assert len(found.preferences) == 2
    assert "2 judgements were replaced by a later one of the same judge on the same pair" in found.notes


def test_an_empty_answer_counts_and_makes_no_row(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": "p", "chosen": "", "rejected": "words"}) + "\n")
    review = create(tmp_path / "review", read_pairs(str(path), {}), ["anna"], attention=0)
    judge(review, [("anna", 0, 1)])
    found = summed_up(review)
    assert (found.preferences, found.matches[0].lost) == ([], 1)
    assert "1 judgements about an empty answer make no row to train on" in found.notes


def test_figures_equal_those_counted_by_hand(make_review: Callable[..., Review]) -> None:
    review = make_review(8, rubric=[Question("q", "Sound?")])
    anna = [0, 0, 0, 0, 1, 1, "tie", "both_bad"]
    ben = [0, 0, 0, 1, 1, 0, "tie", "skip"]
    judge(
        review,
        [("anna", n, verdict) for n, verdict in enumerate(anna)],
        ratings={"0": {"q": 4}, "1": {"q": 2}},
        seconds=4.0,
    )
    judge(
        review,
        [("ben", n, verdict) for n, verdict in enumerate(ben)],
        ratings={"0": {"q": 5}, "1": {"q": 2}},
        seconds=8.0,
    )
    found = summed_up(review)
    [match] = found.matches
    assert (match.a, match.b) == ("wren", "mole")
    assert (match.won, match.lost, match.tied, match.both_bad, match.skipped) == (8, 4, 2, 1, 1)
    assert match.share is not None
    assert match.share.value == pytest.approx((8 + 1.5) / 15)
    # half of log odds of 9.5 wins against 5.5
    assert found.strengths["wren"].value == pytest.approx(np.log(9.5 / 5.5) / 2, abs=1e-6)
    [agreed] = found.kappas
    # of 7 pairs 5 the same; by chance (4 * 4 + 2 * 2 + 1 * 1) / 49
    assert (agreed.pairs, agreed.same) == (7, 5)
    assert agreed.kappa == pytest.approx((5 / 7 - 21 / 49) / (1 - 21 / 49))
    # alpha: n = 14, 8 first, 4 second, 2 ties; 2 units disagree, each 2 coincidences
    assert found.alpha is not None
    assert found.alpha.value == pytest.approx(1 - 13 * 4 / (14**2 - 8**2 - 4**2 - 2**2))
    [rated] = found.rated
    assert {model: i.value for model, i in rated.means.items()} == {"wren": 4.5, "mole": 2.0}
    assert len(found.ratings) == 32
    by_name = {each.name: each for each in found.judges}
    assert by_name["anna"].verdicts == {"left": 4, "right": 2, "tie": 1, "both_bad": 1, "skip": 0}
    assert (by_name["anna"].left, by_name["anna"].decided, by_name["ben"].seconds) == (4, 6, (8.0, 8.0, 8.0))


def test_prompts_judged_by_many_are_drawn_together(make_review: Callable[..., Review]) -> None:
    """Ten judges who say the same of two prompts know no more than one."""
    review = make_review(2, [f"j{n}" for n in range(10)])
    judge(review, [(f"j{n}", item, item) for n in range(10) for item in range(2)])
    [match] = summed_up(review).matches
    assert match.share is not None
    assert (match.share.value, match.share.low, match.share.high) == (0.5, 0.0, 1.0)


def test_checks_are_reported_and_may_exclude(make_review: Callable[..., Review]) -> None:
    review = make_review(8, ["anna", "ben", "carl"], attention=0.3)
    items = list(review.items.values())
    checks = [number for number, item in enumerate(items) if item.check]
    pairs = [number for number, item in enumerate(items) if not item.check]
    assert len(checks) == 4
    judge(review, [("anna", n, 0) for n in pairs] + [("ben", n, 1) for n in pairs])
    judge(review, [("anna", n, 0) for n in checks])
    judge(review, list(zip(["ben"] * 4, checks, [1, "tie", "both_bad", "skip"], strict=True)))
    found = summed_up(review)
    anna, ben, carl = found.judges
    assert (anna.checks, anna.failed) == (4, 0)
    assert (ben.checks, ben.failed) == (3, 2)  # both bad may be so; a skip says nothing
    assert (carl.checks, carl.judged) == (0, 0)
    assert (found.matches[0].won, found.matches[0].lost) == (8, 8)  # checks are no judgements of models
    kept = summed_up(review, max_failed=0.5)
    assert [each.excluded for each in kept.judges] == [False, True, False]
    assert (kept.matches[0].won, kept.matches[0].lost) == (8, 0)
    assert {row["judge"] for row in kept.preferences} == {"anna"}
    assert "left out for the checks they failed: ben" in kept.notes
    assert any("no bound" in note for note in kept.notes)


def test_a_judge_with_a_side_is_named(make_review: Callable[..., Review]) -> None:
    review = make_review(20)
    judge(review, [("anna", n, "left") for n in range(20)])
    assert any(note.startswith("anna prefers a side: left in 100 % of 20") for note in summed_up(review).notes)


def test_three_models_are_ranked(tmp_path: Path, answers: Callable[[int], list[str]]) -> None:
    wren, mole = answers(4)
    newt = tmp_path / "newt.jsonl"
    newt.write_text(Path(wren).read_text().replace("serves well", "may do"))
    review = create(tmp_path / "review", read_answers([wren, mole, str(newt)], {}), ["anna"], attention=0)
    order = {"wren": 2, "newt": 1, "mole": 0}
    said_so = []
    for number, item in enumerate(review.items.values()):
        better = 0 if order[item.models[0]] > order[item.models[1]] else 1
        said_so.append(("anna", number, better if number % 4 else 1 - better))
    judge(review, said_so)
    found = summed_up(review)
    assert len(found.matches) == 3
    page = write(found).read_text()
    assert sum(interval.value for interval in found.strengths.values()) == pytest.approx(0, abs=1e-9)
    for name in order:
        assert name in page


def test_the_page_escapes_and_a_log_without_judgements_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": "p", "chosen": "x", "rejected": "y"}) + "\n")
    rubric = [Question("q", "<script>alert(1)</script>")]
    review = create(tmp_path / "review", read_pairs(str(path), {}), ["anna"], attention=0, rubric=rubric)
    with pytest.raises(RunError, match="nothing is judged yet"):
        summed_up(review)
    judge(review, [("anna", 0, "skip")], ratings={"0": {"q": 1}, "1": {"q": 2}})
    page = write(summed_up(review)).read_text()  # a single skip: nothing is defined, and that is no fault
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    tree = json.loads((review.folder / "results" / "results.json").read_text())
    assert (tree["alpha"], tree["strengths"]) == (None, {})
