"""Splitting: the properties that it promises, against slow counts."""

from __future__ import annotations

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from whet.data import content_key, duplicates, split
from whet.rows import Example


def text(words: str, place: str = "") -> Example:
    return Example(place=place, shape="text", text=words)


def texts(examples: list[Example]) -> list[str]:
    return [example.text for example in examples]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 12), max_size=60), st.floats(0.01, 0.99), st.integers(0, 3))
def test_equal_rows_fall_on_one_side_and_nothing_is_lost(numbers, share, seed):
    rows = [text(f"row {n}", place=str(index)) for index, n in enumerate(numbers)]
    train, validation = split(rows, share, seed)
    assert sorted([*train, *validation], key=lambda row: int(row.place)) == rows
    assert [row for row in rows if row in train] == train
    assert not set(texts(train)) & set(texts(validation))
    if len(set(numbers)) > 1:
        assert train
        assert validation
    else:
        assert validation == []


def test_the_share_is_met_where_rows_differ():
    rows = [text(str(n)) for n in range(1000)]
    for share in (0.1, 0.25, 0.5):
        assert len(split(rows, share, 0)[1]) == round(1000 * share)
    assert split(rows, 0, 0) == (rows, [])


def test_the_seed_decides():
    rows = [text(str(n)) for n in range(100)]
    assert split(rows, 0.2, 1) == split(rows, 0.2, 1)
    assert split(rows, 0.2, 1) != split(rows, 0.2, 2)


def test_most_rows_stay_on_their_side_when_others_are_added():
    rows = [text(str(n)) for n in range(1000)]
    before = set(texts(split(rows, 0.2, 0)[1]))
    after = set(texts(split([text(f"new {n}") for n in range(100)] + rows, 0.2, 0)[1]))
    assert len(before & after) > 0.85 * len(before)


def test_what_makes_rows_equal():
    turns = [{"role": "user", "content": "Caf\u00e9?"}, {"role": "assistant", "content": "Yes"}]
    row = Example(place="a:1", shape="conversation", messages=turns)
    blanks = [{"content": " Cafe\u0301?\n", "role": "user"}, {"role": "assistant", "content": "Yes", "weight": 0}]
    same = dataclasses.replace(row, place="b:9", id="x", weight=2.0, group="g", extra={"a": 1}, messages=blanks)
    assert content_key(row) == content_key(same)
    case = [turns[0], {"role": "assistant", "content": "yes"}]
    for other in (
        dataclasses.replace(row, messages=case),
        dataclasses.replace(row, messages=turns[:1]),
        dataclasses.replace(row, tools=[{"type": "function", "function": {"name": "f"}}]),
        dataclasses.replace(row, messages=[], prompt=turns[:1], chosen=turns[1:]),
    ):
        assert content_key(row) != content_key(other)


def test_labels_and_shapes_are_content():
    good = Example(place="", shape="label", prompt=[], chosen=[{"role": "assistant", "content": "a"}], label=True)
    assert content_key(good) != content_key(dataclasses.replace(good, label=False))
    assert content_key(text("a")) != content_key(dataclasses.replace(text("a"), shape="prompt"))


def test_duplicates_are_rows_of_train():
    train = [text("a", "t:1"), text("b", "t:2"), text(" a", "t:3")]
    assert [row.place for row in duplicates(train, [text("a", "v:1"), text("c", "v:2")])] == ["t:1", "t:3"]


def test_answers_to_one_prompt_fall_on_one_side():
    asked = [[{"role": "user", "content": f"question {n}"}] for n in range(40)]
    say = lambda words: [{"role": "assistant", "content": words}]  # noqa: E731
    pairs = [
        Example(place="", shape="preference", prompt=prompt, chosen=say(f"good {n}"), rejected=say("bad"))
        for prompt in asked
        for n in range(3)
    ]
    train, validation = split(pairs, 0.25, 0)
    sides = [{example.prompt[0]["content"] for example in side} for side in (train, validation)]
    assert sides[1]
    assert not sides[0] & sides[1]
    labelled = [dataclasses.replace(pair, shape="label", rejected=[], label=True) for pair in pairs]
    sides = [{example.prompt[0]["content"] for example in side} for side in split(labelled, 0.25, 0)]
    assert not sides[0] & sides[1]
