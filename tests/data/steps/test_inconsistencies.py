"""Answers that contradict each other, and answers that are none: faults, and their look-alikes that are no faults."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from whet.data.curation.pipeline import curate
from whet.data.steps.answer_checks import empty, no_full_stop, repeats_prompt, roles, truncated, wrong_language
from whet.data.steps.inconsistencies import kept_answers
from whet.data.steps.refusals import REFUSALS, refusal

REFUSED = [
    "I'm sorry, but I can't help with that.",
    "I’m sorry, but I cannot assist with that request.",
    "I cannot help with that",
    "I can't do that.",
    "I won't provide instructions of this kind.",
    "I will not be able to help you with this.",
    "Sorry, I am not allowed to answer that.",
    "Unfortunately, I am unable to open links.",
    "I'm afraid I can't give you her address.",
    "I apologize, but I must decline to write this.",
    "Oh, I'm sorry, I'm not comfortable discussing this.",
    "As an AI language model, I do not have personal opinions.",
    "That is hard to say; as an AI, I can't know how you feel.",
    "I'm just an AI, so I don't have a body.",
    "I'm sorry, that's not something I can share.",
    "Sorry, but this request is one that I have to turn down.",
    "Your request violates the rules of this service.",
    "That would be against my guidelines.",
    "I don't have the ability to book flights.",
]
NOT_REFUSED = [
    "I'm sorry to hear that you are ill. Rest, and drink a lot.",
    "Sorry for the delay! Here is the list you asked for: bread, milk, eggs.",
    "Unfortunately, the museum is closed on Mondays. Go on Tuesday.",
    "You cannot divide by zero.",
    "I'm sorry, but I can't agree: the earth is round.",
    "I'm sorry, I don't understand. Which file do you mean?",
    "Penguins can't fly, but they swim well.",
    "I can't wait to see you!",
    "I cannot recall a better film than this one.",
    "I can help with that. First, open the window.",
    "The court refused to help with the case.",
    "As an AI researcher, she cannot share the data of her patients.",
    "An AI language model predicts the next token.",
    "No, that is not possible: a triangle has three sides.",
    "The clerk said: I am not able to find your file.",
    "We cannot see air, because its molecules do not scatter enough light.",
]  # fmt: skip


@pytest.mark.parametrize("answer", REFUSED)
def test_refusals(answer: str) -> None:
    assert refusal("How do I do it?", answer) == "refusal"


@pytest.mark.parametrize("answer", NOT_REFUSED)
def test_what_looks_like_a_refusal(answer: str) -> None:
    assert refusal("How do I do it?", answer) == ""


def test_every_pattern_of_refusals_is_needed() -> None:
    import re

    for name, pattern in REFUSALS:
        others = [re.compile(other, re.IGNORECASE) for other_name, other in REFUSALS if other_name != name]
        alone = re.compile(pattern, re.IGNORECASE)
        plain = [answer.replace("’", "'") for answer in REFUSED]
        assert any(alone.search(answer) and not any(o.search(answer) for o in others) for answer in plain), name


def test_a_refusal_that_was_asked_for_is_none() -> None:
    assert refusal("Write an e-mail that declines the invitation.", "I'm sorry, but I cannot come.") == ""


@pytest.mark.parametrize(
    ("answer", "found"),
    [("", "empty answer"), (" \n\t", "empty answer"), ("\u200b", "empty answer"), ("<nooutput>", "placeholder"),
     ("No output", "placeholder"), ("0", ""), ("?", ""), ("None", ""), ("🙂", "")],
)  # fmt: skip
def test_empty(answer: str, found: str) -> None:
    assert empty("Prompt", answer) == found


@pytest.mark.parametrize(
    ("prompt", "answer", "found"),
    [
        ("Who wrote the book on the table?", "who wrote the book  on the table", "the prompt again"),
        ("Correct it.\n\nShe like to read books.", "She like to read books.", "the prompt's last part again"),
        ("Correct it.\n\nshe likes to read books", "She likes to read books.", ""),
        ("Which one?\n\nA, B", "A, B", ""),
        ("Say who wrote the book on the table", "Say who wrote the book on the table: Ann", "begins with the prompt"),
        ("Is ice cold?", "Ice is cold.", ""),
        ("", "An answer", ""),
    ],
)
def test_repeats_prompt(prompt: str, answer: str, found: str) -> None:
    assert repeats_prompt(prompt, answer) == found


LONG = "We went to the market in the morning and bought apples, pears, plums"


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("Here it is:\n```python\nprint(1)\n", "open code fence"),
        ("```\nprint(1)\n```", ""),
        ('{"name": "Ann", "tags": ["a", "b"', "open JSON"),
        ('{"name": "Ann {", "tags": []}', ""),
        ('{"name": "Ann', "open JSON"),
        ("[1, 2, 3", ""),  # an interval, perhaps
        (LONG + ",", "ends in ','"),
        (LONG + " and", "ends in a word that must go on"),
        (LONG + ". After that we went home with the following things:", "ends in ':'"),
        (LONG + ".\nAge:", ""),
        (LONG, ""),
        (LONG + ".", ""),
        ("apples, pears,", ""),
        (f"{LONG}.\n- someone to walk home with", ""),
        ("int x = 0;\nfor (i = 0; i < n; i++) {\n  x += f(i, (g(i)));\n  y[i] = (x);\n} a b c d e f, ", ""),
        ("Yes", ""),
        ("The", ""),
    ],
)
def test_truncated(answer: str, found: str) -> None:
    assert truncated("Prompt", answer) == found


def test_no_full_stop() -> None:
    whole = "It was late. We were tired. So we went home by the last train of the night"
    assert no_full_stop("Prompt", whole) == "no full stop"
    for good in (
        whole + ".",
        "Late. Tired. Centers for Disease Control and Prevention Atlanta",
        "It was late\nWe went home",
    ):
        assert no_full_stop("Prompt", good) == ""


ENGLISH = "The train leaves at seven, so we should be at the station before breakfast."
GERMAN = "Der Zug fährt um sieben ab, also sollten wir vor dem Frühstück am Bahnhof sein."


@pytest.mark.parametrize(
    ("prompt", "answer", "found"),
    [
        (ENGLISH, GERMAN, "asked in en, answered in de"),
        (GERMAN, ENGLISH, "asked in de, answered in en"),
        (GERMAN, GERMAN, ""),
        (f"Translate: {ENGLISH}", GERMAN, ""),
        (f"{ENGLISH} Say it in German.", GERMAN, ""),
        (f"{ENGLISH}\n\n{GERMAN}", GERMAN, ""),  # a system prompt in English
        (ENGLISH, "Ja.", ""),
        (GERMAN, "```\nfor name in names:\n    print(name)\n```", ""),
    ],
)
def test_wrong_language(prompt: str, answer: str, found: str) -> None:
    assert wrong_language(prompt, answer) == found


def turns(*names: str) -> list[dict[str, Any]]:
    made = {
        "call": {"role": "assistant", "content": None, "tool_calls": [{}]},
        "silent": {"role": "user", "content": ""},
    }
    return [made.get(name, {"role": name, "content": "words"}) for name in names]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("system user assistant", ""),
        ("user assistant user assistant", ""),
        ("user call tool tool assistant user assistant", ""),
        ("user call", ""),
        ("", "no turns"),
        ("assistant user assistant", "assistant first"),
        ("user user assistant", "user after user"),
        ("user assistant assistant", "assistant after assistant"),
        ("user assistant system user assistant", "system after assistant"),
        ("user call assistant", "assistant after call"),
        ("user tool assistant", "tool after user"),
        ("user assistant user", "no answer after user"),
        ("silent assistant", "user says nothing"),
        ("user teacher", "unknown role 'teacher'"),
    ],
)
def test_roles(names: str, found: str) -> None:
    assert roles(turns(*names.split())) == found


def test_roles_of_sharegpt() -> None:
    names = ("system", "human", "function_call", "observation", "gpt")
    assert roles([{"from": name, "value": "words"} for name in names]) == ""
    assert roles([{"from": "gpt", "value": "words"}]) == "assistant first"


def labelled(*answers: str, prompt: str = "Is ice cold?") -> list[dict[str, Any]]:
    return [{"prompt": prompt, "completion": answer, "n": n} for n, answer in enumerate(answers)]


@pytest.mark.parametrize(
    ("what", "left"),
    [("drop-all", [5]), ("keep-first", [0, 3, 5]), ("keep-majority", [1, 2, 4, 5]), ("report", [0, 1, 2, 3, 4, 5])],
)
def test_contradictions(what: str, left: list[int]) -> None:
    rows = labelled("No", "Yes", "yes.", "no", "YES")
    rows += [{"prompt": "is  ice HOT?", "completion": "No", "n": 5}]
    for row, prompt in zip(
        rows, ["Is ice cold?", "is ice cold", "Is  ice cold?\n", "Is ice cold?", "Is ice cold?"], strict=False
    ):
        row["prompt"] = prompt
    done = curate(rows, [{"inconsistencies": {"contradictions": what}}])
    assert [row["n"] for row in done.rows or []] == left
    notes = done.ledger.steps[0].notes
    assert notes == {"found": {"contradiction": 5}, "prompts with contradicting answers": 1}


def test_a_tie_has_no_majority() -> None:
    assert kept_answers(np.array([1, 0, 0, 1]), "keep-majority") == set()
    assert kept_answers(np.array([1, 0, 0, 1]), "keep-first") == {1}


def test_long_answers_may_differ() -> None:
    rows = labelled("Once there was a cat that slept.", "A dog went to town one day.", prompt="Tell me a story")
    done = curate(rows, [{"inconsistencies": {"contradictions": "drop-all"}}])
    assert done.rows == rows
    assert done.ledger.steps[0].notes["prompts with several answers"] == 1
    done = curate(rows, [{"inconsistencies": {"several_answers": "keep-first"}}])
    assert [row["n"] for row in done.rows or []] == [0]


def test_flags_drops_and_checks_that_are_off() -> None:
    rows = labelled("I cannot help with that.", "", "Yes, very.")
    for n, row in enumerate(rows):
        row["prompt"] += str(n)
    done = curate(rows, [{"inconsistencies": {}}])
    assert done.rows == [rows[0] | {"inconsistencies": ["refusal"]}, rows[2]]
    assert done.ledger.steps[0].reasons == {"refusal": 1, "empty": 1}
    done = curate(rows, [{"inconsistencies": {"empty": False, "refusal": "drop"}}])  # YAML reads `off` as False
    assert done.rows == rows[1:]
    assert done.ledger.steps[0].notes["found"] == {"refusal": 1}


def test_conversations_and_columns_of_other_names() -> None:
    from whet.data.curation.settings import check_curation

    rows = [{"messages": turns("user", "assistant")}, {"messages": turns("user", "user", "assistant")}, {"text": ""}]
    done = curate(rows, [{"inconsistencies": {"repeats_prompt": "off"}}])
    assert done.rows == [rows[0], rows[2]]
    tree = {"prompt_columns": ["q"], "answer_columns": ["a"], "steps": ["inconsistencies"]}
    asked = [{"q": "How?", "a": ""}, {"q": "Why?", "a": "So."}]
    assert curate(asked, check_curation(tree, "test")).rows == asked[1:]
