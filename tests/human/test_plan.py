from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from whet.errors import RecipeError
from whet.human.folder import Review
from whet.human.pairs import said
from whet.human.plan import judge_names, left_of, read_rubric

NAMES = [f"judge{n}" for n in range(5)]


def test_each_pair_is_seen_by_as_many_judges_as_asked_and_work_is_shared(make_review: Callable[..., Review]) -> None:
    review = make_review(33, NAMES, overlap=2, attention=0.1)
    seen = Counter(item for judge in review.judges for item in judge.items)
    checks = {item.id for item in review.items.values() if item.check}
    assert {seen[item] for item in review.items if item not in checks} == {2}
    assert {seen[item] for item in checks} == {5}
    assert all(len(set(judge.items)) == len(judge.items) for judge in review.judges)
    loads = [len(judge.items) for judge in review.judges]
    assert max(loads) - min(loads) <= 1
    assert len(checks) / max(loads) == pytest.approx(0.1, abs=0.05)


def test_a_check_is_an_answer_against_one_that_belongs_to_another_prompt(make_review: Callable[..., Review]) -> None:
    review = make_review(40, attention=0.2)
    own = {
        said(item.prompt): {said(answer) for answer in item.answers} for item in review.items.values() if not item.check
    }
    checks = [item for item in review.items.values() if item.check]
    assert len(checks) == 10
    for check in checks:
        right, foreign = map(said, check.answers)
        assert right in own[said(check.prompt)]
        assert foreign not in own[said(check.prompt)]
        assert check.models[1] == ""


def test_checks_that_cannot_be_made_are_counted(make_review: Callable[..., Review]) -> None:
    assert make_review(1, attention=0.5).notes == [
        "0 of 1 attention checks could be made: too few prompts with different answers"
    ]


def test_sides_are_a_fair_coin_of_judge_and_item() -> None:
    left = [left_of(7, judge, f"{item:08x}") for judge in ("anna", "ben") for item in range(1000)]
    assert left == [left_of(7, judge, f"{item:08x}") for judge in ("anna", "ben") for item in range(1000)]
    assert 0.45 < sum(left) / len(left) < 0.55
    assert 0.45 < sum(a == b for a, b in zip(left[:1000], left[1000:], strict=True)) / 1000 < 0.55


def test_orders_differ_and_tokens_are_each_judges_own(make_review: Callable[..., Review]) -> None:
    anna, ben = make_review(30).judges
    assert sorted(anna.items) == sorted(ben.items)
    assert anna.items != ben.items
    assert anna.token != ben.token
    assert len(anna.token) >= 20


def test_faults_of_settings_name_them(make_review: Callable[..., Review], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"--overlap: 3 of 2 judges"):
        make_review(overlap=3)
    for words, what in (("anna,anna", "twice"), ("an na", "no name"), (" , ", "no judge"), ("<b>", "no name")):
        with pytest.raises(RecipeError, match=rf"--judges: .*{what}"):
            judge_names(words)
    rubric = tmp_path / "rubric.yaml"
    for text in ("", "- 1\n- 2", "- same\n- same", "key: [a]", "{", "just words"):
        rubric.write_text(text)
        with pytest.raises(RecipeError, match=r"rubric\.yaml"):
            read_rubric(str(rubric))


def test_a_rubric_is_a_list_or_names_with_questions(tmp_path: Path) -> None:
    rubric = tmp_path / "rubric.yaml"
    rubric.write_text("- Is it true?\n- Is it kind?\n")
    assert [(q.key, q.text) for q in read_rubric(str(rubric))] == [("Is it true?",) * 2, ("Is it kind?",) * 2]
    rubric.write_text("questions:\n  truth: Is it true?\n")
    assert [(q.key, q.text) for q in read_rubric(str(rubric))] == [("truth", "Is it true?")]
