"""Messages: what templates are promised, and what is refused."""

from __future__ import annotations

import json

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from whet.data.messages import messages, transcript
from whet.errors import RowError

CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


def one(turn: object) -> dict:
    (message,) = messages([turn], "messages", "f:1")
    return message


def test_arguments_become_objects_and_nulls_go():
    turn = {"role": "assistant", "content": None, "refusal": None, "tool_calls": [CALL], "weight": 0.0}
    expected = {**CALL, "function": {"name": "add", "arguments": {"a": 1}}}
    assert one(turn) == {"role": "assistant", "content": "", "tool_calls": [expected], "weight": 0}
    assert CALL["function"]["arguments"] == '{"a": 1}'  # the caller's row is left alone


def test_older_spellings_of_tools():
    called = one({"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": '{"a": 1}'}})
    assert called["tool_calls"] == [{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}]
    assert one({"role": "function", "name": "add", "content": "3"}) == {"role": "tool", "name": "add", "content": "3"}


def test_calls_without_arguments():
    call = {"function": {"name": "now", "arguments": ""}}
    assert one({"role": "assistant", "tool_calls": [call]})["tool_calls"][0]["function"]["arguments"] == {}


def test_no_tool_calls_are_none():
    assert one({"role": "assistant", "content": "x", "tool_calls": []}) == {"role": "assistant", "content": "x"}


def test_text_parts_are_put_together():
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    assert one({"role": "user", "content": parts}) == {"role": "user", "content": "one two"}


def test_other_keys_are_kept_for_the_template():
    turn = {"role": "assistant", "content": "4", "reasoning_content": "2+2", "name": "calc"}
    assert one(turn) == turn


def test_several_calls_in_one_sharegpt_turn():
    calls = [{"name": "f", "arguments": {}}, {"name": "g", "arguments": {"x": 1}}]
    message = one({"from": "function_call", "value": json.dumps(calls)})
    assert [call["function"] for call in message["tool_calls"]] == calls


def test_a_template_that_prints_objects_sees_the_same_for_both_wires():
    """OpenAI sends arguments as JSON text, Hugging Face's templates print objects."""
    template = "{% for m in messages %}{{ m.content }}{{ m.tool_calls[0].function.arguments | tojson }}{% endfor %}"
    as_object = {**CALL, "function": {"name": "add", "arguments": {"a": 1}}}
    rendered = []
    for call in (CALL, as_object):
        turns = messages([{"role": "assistant", "tool_calls": [call]}], "messages", "f:1")
        rendered.append(render_jinja_template([turns], chat_template=template)[0])
    assert rendered[0] == rendered[1] == ['{"a": 1}']


def test_transcripts():
    assert transcript("\n\nHuman: a\n\nb \n\nAssistant:\n\nHuman: c") == [
        {"role": "user", "content": "a\n\nb"},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "c"},
    ]
    assert transcript("Note.\n\nHuman: a") is None
    assert transcript("A Human: being") is None


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        ({"role": "asistant", "content": "x"}, "`messages[0]` has unknown role 'asistant'. Did you mean 'assistant'?"),
        ({"content": "x"}, "`messages[0]` has no role"),
        ({"role": ["user"], "content": "x"}, "unknown role ['user']"),
        ({"from": "humman", "value": "x"}, "unknown speaker 'humman'. Did you mean 'human'?"),
        ({"from": ["gpt"], "value": "x"}, "unknown speaker ['gpt']"),
        ({"from": "function_call", "value": "add(1)"}, "`messages[0].value` is text that is not JSON"),
        ({"from": "function_call", "value": "3"}, "`messages[0].tool_calls[0]` names no function"),
        ({"from": "gpt"}, "`messages[0]` has no content"),
        ("hello", "`messages[0]` is text, not a message"),
        ({"role": "user"}, "`messages[0]` has no content"),
        ({"role": "user", "content": 3}, "`messages[0]` has content that is a number"),
        ({"role": "tool", "content": {"a": 1}}, "`messages[0]` has content that is an object"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "a part of type 'image_url'; whet reads text alone"),
        ({"role": "user", "content": ["x"]}, "a part of type 'text'"),
        ({"role": "assistant", "content": "x", "weight": 0.5}, "weight 0.5; a turn's weight is 0 or 1"),
        ({"role": "user", "content": "x", "tool_calls": [CALL]}, "only an assistant calls tools"),
        ({"role": "assistant", "tool_calls": {"name": "f"}}, "`messages[0].tool_calls` is an object, not a list"),
        ({"role": "assistant", "tool_calls": [{"id": "x"}]}, "`messages[0].tool_calls[0]` names no function"),
        ({"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{oops"}]}, "arguments` is text that is"),
        ({"role": "assistant", "tool_calls": [{"name": "f", "arguments": [1]}]}, "arguments` is a list, not an object"),
    ],
)  # fmt: skip
def test_what_is_not_a_message(turn, message):
    with pytest.raises(RowError) as caught:
        one(turn)
    assert caught.value.where == "f:1"
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "`messages` is an empty list"),
        ({"role": "user"}, "`messages` is an object, not a list"),
        ("[{]", "`messages` is text that is not JSON (broken JSON at column 3"),
        ('"x"', "`messages` is text, not a list"),
    ],
)
def test_what_is_not_a_list_of_messages(value, message):
    with pytest.raises(RowError) as caught:
        messages(value, "messages", "f:1")
    assert message in str(caught.value)


def test_a_conversation_needs_an_assistant(examples):
    with pytest.raises(RowError, match=r"rows\.jsonl:1: `messages` has no assistant turn"):
        examples({"messages": [{"role": "user", "content": "x"}]})
