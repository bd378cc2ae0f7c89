"""Which texts are reworded, by what templates, and which of a model's texts are accepted."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from whet.data.steps import rewording as words

CHAT = {
    "messages": [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
        {"role": "assistant", "content": "four"},
    ]
}
ALPACA = {"instruction": "sum it up", "input": "a long text", "output": "short", "source": "book"}
PAIR = {"prompt": "why?", "chosen": "so", "rejected": "no"}


@pytest.mark.parametrize(
    ("row", "prompts", "answers"),
    [
        (CHAT, ["one", "three"], ["two", "four"]),
        (ALPACA, ["sum it up", "a long text"], ["short"]),
        (PAIR, ["why?"], ["so", "no"]),
        ({"text": "running"}, [], []),
        ({"question": "q", "answer": "a", "title": "t"}, ["q"], ["a"]),
        ({"conversations": [{"from": "human", "value": "h"}, {"from": "gpt", "value": "g"}]}, ["h"], ["g"]),
        ({"prompt": [{"role": "user", "content": "u"}], "completion": "c"}, ["u"], ["c"]),
    ],
)
def test_prompts_and_answers_of_every_shape(row: dict[str, Any], prompts: list[str], answers: list[str]) -> None:
    assert [text for _, text in words.texts_to_change(row, "prompt")] == prompts
    assert [text for _, text in words.texts_to_change(row, "answer")] == answers


def test_columns_that_the_user_names_count_as_prompts() -> None:
    assert words.texts_to_change({"dialogue": "d", "summary": "s"}, "prompt", ("dialogue",)) == [(("dialogue",), "d")]


def test_the_question_is_the_last_turn_or_the_instruction() -> None:
    assert words.question_of(CHAT) == (("messages", 3, "content"), "three")
    assert words.question_of(ALPACA) == (("instruction",), "sum it up")
    assert words.answer_of(CHAT) == (("messages", 4, "content"), "four")
    assert words.answer_of(PAIR) is None


def test_templates_put_fields_in_place() -> None:
    row, fault = words.from_template(ALPACA, "{source}: {prompt} {{x}} {input}")
    assert fault.startswith("no field x")
    row, _ = words.from_template(ALPACA, "{source}: {prompt} / {input}")
    assert row == ALPACA | {"instruction": "book: sum it up / a long text"}
    row, _ = words.from_template(CHAT, words.BACK)
    assert row is not None
    assert [turn["content"] for turn in row["messages"]][:3] == ["be kind", "one", "two"]
    assert row["messages"][3]["content"].endswith("\n\nfour")
    assert row["messages"][4]["content"] == "three"
    row, _ = words.from_template(ALPACA, {"prompt": "{answer}", "answer": "{prompt}", "task": "back"})
    assert row == ALPACA | {"instruction": "short", "output": "sum it up", "task": "back"}


def test_templates_that_do_not_fit() -> None:
    assert words.from_template({"text": "x"}, "Q: {prompt}") == (None, "no field prompt")
    assert words.from_template(PAIR, words.BACK) == (None, "no field answer")
    assert words.from_template({"text": "x"}, {"prompt": "{text}"}) == (None, "no prompt")


def test_a_template_reaches_nothing_but_fields() -> None:
    assert words.from_template(ALPACA, "{prompt.__class__} {prompt}")[0] == ALPACA | {
        "instruction": "{prompt.__class__} sum it up"
    }


def test_numbers_are_compared_as_numbers() -> None:
    assert words.numbers("1,200 of 3.5, or 12,5 and 7.") == Counter({"1200": 1, "3.5": 1, "12,5": 1, "7": 1})


SOURCE = "How many of the 12 apples are left when 5 are eaten?"


@pytest.mark.parametrize(
    ("made", "fault"),
    [
        ("If 5 of a dozen, that is 12, apples get eaten, what remains?", ""),
        ("", "empty"),
        ("  How many of the 12 apples are left  when 5 are eaten?\n", "as its source"),
        ("how many of the 12 apples are left when 5 are eaten", "nearly as its source"),
        ("How many of the 12 apples remain when 4 are eaten?", "other numbers"),
        ("12, 5: left?", "too short"),
        ("12 " + "and so on " * 15 + " 5", "too long"),
        ("I'm sorry, I can't help with 12 apples of which 5 are gone.", "a refusal"),
    ],
)
def test_what_is_accepted(made: str, fault: str) -> None:
    assert words.fault_of(SOURCE, made, 0.95, (0.5, 2.0)) == fault


def test_likeness_by_hand() -> None:
    assert words.likeness("a b b c", "B a d") == pytest.approx(2 / 5)  # shared a b; all a b b c d
    assert words.likeness("", "") == 0


def test_quotation_marks_that_a_model_adds_are_taken_off() -> None:
    assert words.unwrapped(' "So it is." \n', "It is so.") == "So it is."
    assert words.unwrapped('"So it is."', '"It is so."') == '"So it is."'


@pytest.mark.parametrize(
    ("answer", "pair"),
    [
        ('{"prompt": " p ", "answer": "a"}', ("p", "a")),
        ('Here:\n```json\n{"prompt": "p", "answer": "{a}"}\n```', ("p", "{a}")),
        ('{"prompt": "p"}', None),
        ('{"prompt": "p", "answer": ["a"]}', None),
        ("nonsense", None),
        ("[1]", None),
        ("", None),
    ],
)
def test_examples_from_a_models_json(answer: str, pair: tuple[str, str] | None) -> None:
    assert words.example_of(answer) == pair


def test_a_new_example_takes_the_shape_of_an_old_one() -> None:
    assert words.like(CHAT, "p", "a")["messages"] == [
        {"role": "user", "content": "p"}, {"role": "assistant", "content": "a"},
    ]  # fmt: skip
    assert words.like(ALPACA, "p", "a") == {"instruction": "p", "input": "", "output": "a"}
    assert words.like({"prompt": "", "completion": ""}, "p", "a") == {"prompt": "p", "completion": "a"}
