"""Shapes: every spelling of a row against the one it stands for, as TRL or OpenAI's documents have it."""

from __future__ import annotations

import copy
import json

import pytest

from whet.errors import RowError


def user(content: str) -> dict:
    return {"role": "user", "content": content}


def assistant(content: str, **more: object) -> dict:
    return {"role": "assistant", "content": content, **more}


CHAT = [{"role": "system", "content": "Be kind."}, user("Hi"), assistant("Hello")]


def test_messages(examples):
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    plain, as_text = examples(
        {"messages": CHAT, "tools": tools, "prompt": "Hi"},
        {"messages": json.dumps(CHAT), "tools": json.dumps(tools)},
    )
    assert plain.shape == as_text.shape == "conversation"
    assert plain.messages == as_text.messages == CHAT
    assert plain.tools == as_text.tools == tools
    assert plain.extra == {"prompt": "Hi"}


def test_prompt_and_completion(examples):
    (found,) = examples({"prompt": "Hi", "completion": "Hello", "system": "Be kind.", "topic": "x"})
    assert found.messages == CHAT
    assert found.extra == {"topic": "x"}


def test_turns_of_a_prompt_are_context(examples):
    prompt = [user("a"), assistant("b", weight=1), user("c")]
    (found,) = examples({"prompt": prompt, "completion": [assistant("d")]})
    assert found.messages == [user("a"), assistant("b", weight=0), user("c"), assistant("d")]


def test_alpaca(examples):
    full, blank, alone = examples(
        {"instruction": "Add.", "input": "1 2", "output": "3"},
        {"instruction": "Add.", "input": " \n", "output": "3"},
        {"instruction": "", "input": "1 2", "output": "3"},
    )
    assert full.messages == [user("Add.\n\n1 2"), assistant("3")]
    assert blank.messages == [user("Add."), assistant("3")]
    assert alone.messages == [user("1 2"), assistant("3")]
    assert full.extra == {}


def test_sharegpt_agrees_with_trl(examples):
    convert = pytest.importorskip("trl.data_utils").maybe_convert_to_chatml
    row = {"conversations": [{"from": "user", "value": "Hi"}, {"from": "assistant", "value": "Hello"}]}
    (found,) = examples(row)
    assert found.messages == convert(copy.deepcopy(row))["messages"]


def test_sharegpt_with_tools(examples):
    bare = {"name": "add", "parameters": {"type": "object"}}
    turns = [
        {"from": "human", "value": "1+2?"},
        {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1, "b": 2}}'},
        {"from": "observation", "value": "3"},
        {"from": "gpt", "value": "3."},
    ]
    (found,) = examples({"conversations": turns, "tools": json.dumps([bare]), "system": "Add."})
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 2}}}
    assert found.tools == [{"type": "function", "function": bare}]
    assert found.messages == [
        {"role": "system", "content": "Add."},
        user("1+2?"),
        assistant("", tool_calls=[call]),
        {"role": "tool", "content": "3"},
        assistant("3."),
    ]


def test_text(examples):
    (found,) = examples({"text": "Once.", "system": "an extra here", "label": "Yes"})
    assert (found.shape, found.text) == ("text", "Once.")
    assert found.extra == {"system": "an extra here", "label": "Yes"}


def test_preferences(examples):
    row = {"instruction": "Say", "input": "hi", "chosen": "hi", "rejected": "no", "output": "hi"}
    (found,) = examples(row, objective="dpo")
    assert found.shape == "preference"
    assert found.prompt == [user("Say\n\nhi")]
    assert (found.chosen, found.rejected) == ([assistant("hi")], [assistant("no")])
    assert found.extra == {"output": "hi"}
    (same,) = examples(row)
    assert same.shape == "conversation"
    assert same.messages == [user("Say\n\nhi"), assistant("hi")]
    assert same.extra == {"chosen": "hi", "rejected": "no"}


@pytest.mark.parametrize("objective", ["dpo", "preference", "reward"])
@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        ([user("a"), assistant("b")], [user("a"), assistant("c")]),
        ([*CHAT, user("a"), assistant("b")], [*CHAT, user("a"), assistant("c"), user("d"), assistant("e")]),
        (
            [user("a"), assistant("b"), user("c"), assistant("d")],
            [user("a"), assistant("x"), user("c"), assistant("d")],
        ),
    ],
)
def test_the_prompt_that_pairs_share_agrees_with_trl(examples, chosen, rejected, objective):
    extract = pytest.importorskip("trl.data_utils").extract_prompt
    reference = extract({"chosen": chosen, "rejected": rejected})
    (found,) = examples({"chosen": chosen, "rejected": rejected}, objective=objective)
    assert {"prompt": found.prompt, "chosen": found.chosen, "rejected": found.rejected} == reference


def test_a_prompt_that_pairs_repeat_is_not_repeated(examples):
    row = {"prompt": "a", "chosen": [user("a"), assistant("b")], "rejected": [user("a"), assistant("c")]}
    (found,) = examples({**row, "messages": row["chosen"]}, objective="dpo")
    assert (found.prompt, found.chosen, found.rejected) == ([user("a")], [assistant("b")], [assistant("c")])
    with pytest.raises(RowError, match="`chosen` begins with other turns than `prompt`"):
        examples({**row, "prompt": "other"}, objective="dpo")


def test_transcripts_agree_with_trl(examples):
    extract = pytest.importorskip("trl.data_utils").extract_prompt
    shared = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nIt is late.\n\nHuman: Why?\n\nAssistant:"
    pair = {"chosen": shared + " Because: night.", "rejected": shared + " No."}
    (found,) = examples(pair, objective="dpo")
    assert found.prompt == [user("Hi"), assistant("Hello.\n\nIt is late."), user("Why?")]
    reference = extract(pair)
    assert reference["prompt"] == shared
    assert found.chosen == [assistant(reference["chosen"].strip())]
    assert found.rejected == [assistant(reference["rejected"].strip())]


def test_equal_transcripts_keep_an_answer(examples):
    both = "\n\nHuman: Hi\n\nAssistant: Hello"
    (found,) = examples({"chosen": both, "rejected": both}, objective="dpo")
    assert (found.prompt, found.chosen, found.rejected) == ([user("Hi")], [assistant("Hello")], [assistant("Hello")])


def test_openai_preferences(examples):
    tools = [{"type": "function", "function": {"name": "f"}}]
    row = {
        "input": {"messages": [user("Hi")], "tools": tools, "parallel_tool_calls": True},
        "preferred_output": [assistant("Hello")],
        "non_preferred_output": [assistant("No")],
    }
    (found,) = examples(row, objective="dpo")
    assert (found.prompt, found.chosen, found.rejected) == ([user("Hi")], [assistant("Hello")], [assistant("No")])
    assert found.tools == tools
    with pytest.raises(RowError, match="`input` is text that is not JSON"):
        examples({**row, "input": "Hi"}, objective="dpo")


@pytest.mark.parametrize(("label", "meaning"), [(True, True), (0, False), ("False", False), (1.0, True), ("1", True)])
def test_labels(examples, label, meaning):
    (found,) = examples({"prompt": "a", "completion": "b", "label": label, "x": 1}, objective="kto")
    assert (found.shape, found.label) == ("label", meaning)
    assert (found.prompt, found.chosen, found.extra) == ([user("a")], [assistant("b")], {"x": 1})


def test_prompts_keep_everything_else_for_the_graders(examples):
    row = {"prompt": "2+2?", "completion": "four", "answer": "4", "text": "t", "chosen": "c", "system": "Count."}
    (found,) = examples(row, objective="grpo")
    assert found.shape == "prompt"
    assert found.prompt == [{"role": "system", "content": "Count."}, user("2+2?")]
    assert found.extra == {"completion": "four", "answer": "4", "text": "t", "chosen": "c"}


def test_nulls_are_absent(examples):
    (found,) = examples({"messages": None, "text": None, "prompt": "a", "completion": "b", "tools": None, "id": None})
    assert found.messages == [user("a"), assistant("b")]
    assert (found.tools, found.id, found.extra) == (None, None, {})


@pytest.mark.parametrize(
    ("row", "first", "second", "aside"),
    [
        ({"messages": CHAT, "text": "t"}, "messages", "text", "text"),
        ({"messages": CHAT, "conversations": CHAT}, "messages", "conversations", "conversations"),
        ({"instruction": "i", "output": "o", "text": "t"}, "instruction + output", "text", "text"),
        ({"prompt": "p", "completion": "c", "output": "o"}, "prompt + completion", "prompt + output", "output"),
    ],
)
def test_two_shapes_in_a_row(examples, row, first, second, aside):
    with pytest.raises(RowError) as caught:
        examples(row)
    assert caught.value.what == f"two shapes in one row: `{first}` and `{second}`"
    assert caught.value.where == "rows.jsonl:1"
    (found,) = examples(row, columns={"unused": aside})
    assert found.extra["unused"] == row[aside]


@pytest.mark.parametrize(
    ("row", "objective", "fits"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "sft", "dpo"),
        ({"chosen": "b", "rejected": "c"}, "sft", "dpo"),
        ({"prompt": "a", "completion": "b"}, "dpo", "sft"),
        ({"prompt": "a", "completion": "b", "label": 1}, "dpo", "sft"),
        ({"text": "a"}, "grpo", "sft"),
    ],
)
def test_rows_for_another_objective_say_which(examples, row, objective, fits):
    with pytest.raises(RowError, match=f"objective.kind={fits}"):
        examples(row, objective=objective)


@pytest.mark.parametrize(
    ("row", "objective", "message"),
    [
        ({}, "sft", "the row is empty"),
        ({"role": "user", "content": "x"}, "sft", "this is one turn"),
        ({"prompt": "a", "completion": ["b"]}, "sft", "data.columns={completion: completion} joins"),
        ({"prompt": "a", "completion": 4}, "sft", "`completion` is a number, not text"),
        ({"text": {"a": 1}}, "sft", "`text` is an object, not text"),
        ({"prompt": "a", "completion": [user("b")]}, "sft", "`completion` has no assistant turn"),
        ({"prompt": "a", "completion": "b", "label": False}, "sft", "objective.kind=kto"),
        ({"prompt": CHAT[:2], "completion": "b", "system": "x"}, "sft", "two system turns"),
        ({"messages": CHAT, "tools": "nonsense"}, "sft", "`tools` is text that is not JSON"),
        ({"messages": CHAT, "tools": {"name": "f"}}, "sft", "`tools` is not a list of objects"),
        ({"chosen": "a", "rejected": "b"}, "dpo", "`chosen` is text without a prompt"),
        ({"chosen": [user("a"), assistant("b")], "rejected": [user("c"), assistant("d")]}, "dpo", "share no first"),
        ({"chosen": [user("a"), user("b")], "rejected": [user("a"), assistant("d")]}, "dpo", "`chosen` has no"),
        ({"prompt": "a", "completion": "b", "label": "good"}, "kto", "neither true nor false"),
        ({"prompt": CHAT}, "grpo", "ends with an assistant turn"),
    ],
)  # fmt: skip
def test_rows_that_are_wrong(examples, row, objective, message):
    with pytest.raises(RowError) as caught:
        examples(row, objective=objective)
    assert caught.value.where == "rows.jsonl:1"
    assert message in str(caught.value)
