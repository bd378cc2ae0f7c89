"""Texts of rows by hand-made rows of every shape."""

from __future__ import annotations

import pytest

from whet.data.curation.texts import joined, map_texts, prompt_and_answer, texts_of, with_texts

CHAT = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": "x"}}]},
        {"role": "assistant", "content": "Hello"},
    ],
    "id": 7,
}


@pytest.mark.parametrize(
    ("row", "columns", "texts"),
    [
        ({"text": "a", "source": "b"}, (), ["a"]),
        ({"instruction": "a", "input": "b", "output": "c"}, (), ["a", "b", "c"]),
        (CHAT, (), ["Be brief.", "Hi", "Hello"]),
        ({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}, (), ["a", "b"]),
        ({"prompt": "a", "chosen": [{"role": "assistant", "content": "b"}], "rejected": "c"}, (), ["a", "b", "c"]),
        ({"question": "a", "answer": "b", "id": "x", "url": "y"}, (), ["a", "b"]),
        ({"question": "a", "answer": "b"}, ("answer",), ["b"]),
        ({"tags": ["a", "b"], "n": 3}, ("tags", "n"), ["a", "b"]),
        ({"n": 3}, (), []),
        ({"uid": 7, "paragraphs": [{"order": 1, "text": "a"}, {"order": 2, "text": "b"}]}, (), ["a", "b"]),
    ],
)
def test_texts_of_every_shape(row, columns, texts):
    assert [text for _, text in texts_of(row, columns)] == texts
    assert joined(row, columns) == "\n\n".join(texts)


def test_paths_lead_back_to_the_texts():
    for path, text in texts_of(CHAT):
        value = CHAT
        for step in path:
            value = value[step]
        assert value == text


def test_a_row_that_does_not_change_is_the_same_object():
    assert map_texts(CHAT, str.strip) is CHAT
    assert with_texts(CHAT, {}) is CHAT


def test_changes_leave_everything_else_and_the_old_row_alone():
    new = map_texts(CHAT, str.upper)
    assert [text for _, text in texts_of(new)] == ["BE BRIEF.", "HI", "HELLO"]
    assert [text for _, text in texts_of(CHAT)] == ["Be brief.", "Hi", "Hello"]
    assert new["messages"][1]["content"][1] == CHAT["messages"][1]["content"][1]
    assert new["id"] == 7
    assert [turn["role"] for turn in new["messages"]] == ["system", "user", "assistant"]


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"prompt": "a", "completion": "b"}, ("a", "b")),
        ({"instruction": "a", "input": "b", "output": "c"}, ("a\n\nb", "c")),
        (CHAT, ("Be brief.\n\nHi", "Hello")),
        ({"messages": CHAT["messages"][:2]}, None),
        ({"text": "a"}, None),
    ],
)
def test_prompt_and_answer(row, found):
    assert prompt_and_answer(row) == found
