"""Draws: so many of each label, never a test row, nested, the same for a seed."""

from __future__ import annotations

import pytest

from whet.errors import RecipeError, RowError
from whet.fewshot.shots import divide, draw, labelled
from whet.rows import Example


def row(number: int, label: str, text: str | None = None) -> Example:
    turns = [{"role": "user", "content": text or f"text {number}"}, {"role": "assistant", "content": label}]
    return Example(place=f"rows:{number}", shape="conversation", messages=turns)


@pytest.fixture
def rows() -> list[Example]:
    return [row(n, ["yes", "No.", "Maybe"][n % 3]) for n in range(60)]


def test_labels_are_found_however_they_are_written_and_said_as_told(rows):
    found = labelled([*rows, row(60, "YES")], {"maybe": "perhaps"})
    assert found.labels == ["perhaps", "No.", "yes"]
    assert found.answers[:3] == [2, 1, 0]
    assert found.answers[-1] == 2
    assert [e.messages[-1]["content"] for e in found.examples[:3]] == ["yes", "No.", "perhaps"]


def test_every_label_has_k_rows_and_a_quarter_of_them_stops(rows):
    pool, test = divide(labelled(rows, {}), 15, seed=0)
    found = draw(pool, 8, seed=3)
    assert len(test.examples) == 15
    assert len(found.learn) == 3 * 6
    assert len(found.stop) == 3 * 2
    places = {e.place for e in found.rows}
    assert len(places) == 24
    assert not places & {e.place for e in test.examples}
    for label in pool.labels:
        assert sum(e.messages[-1]["content"] == label for e in found.learn) == 6


def test_draws_of_a_seed_are_nested_and_of_another_seed_are_others(rows):
    pool, _ = divide(labelled(rows, {}), 15, seed=0)
    few, more, other = ({e.place for e in draw(pool, k, seed).rows} for k, seed in ((4, 1), (8, 1), (4, 2)))
    assert few < more
    assert few != other
    assert [e.place for e in draw(pool, 4, 1).learn] == [e.place for e in draw(pool, 4, 1).learn]


def test_a_prompt_of_the_test_is_not_learnt_from():
    rows = labelled([row(n, ["yes", "no"][n % 2], text=f"text {n % 10}") for n in range(40)], {})
    pool, test = divide(rows, 3, seed=0)
    asked = {e.messages[0]["content"] for e in test.examples}
    assert pool.examples
    assert not asked & {e.messages[0]["content"] for e in pool.examples}


def test_what_cannot_be_drawn_is_refused(rows):
    pool, _ = divide(labelled(rows, {}), 15, seed=0)
    with pytest.raises(RowError, match=r"\d+ rows are labelled 'Maybe', and k is 30"):
        draw(pool, 30, 0)
    with pytest.raises(RecipeError, match="no row is labelled 'certain'"):
        labelled(rows, {"certain": "sure"})
    with pytest.raises(RowError, match="1 different answers"):
        labelled([row(1, "yes"), row(2, "yes")], {})
    with pytest.raises(RowError, match=r"rows:7.*no label") as error:
        labelled([row(1, "yes"), row(7, " ")], {})
    assert error.value.exit_code == 2
    with pytest.raises(RecipeError, match="60 test rows of 60"):
        divide(labelled(rows, {}), 60, 0)
