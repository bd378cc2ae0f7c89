from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from whet.errors import RowError
from whet.human.pairs import read_answers, read_pairs, said


def rows(path: Path, *given: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in given), encoding="utf-8")
    return str(path)


def asked(prompt: str, completion: str, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "completion": completion} | more


def texts(pairs: Any) -> list[tuple[str, str, str]]:
    return [(said(pair.prompt), said(pair.answers[0]), said(pair.answers[1])) for pair in pairs]


def test_two_files_are_joined_by_prompt_whatever_their_order(tmp_path: Path) -> None:
    a = rows(tmp_path / "a.jsonl", asked("p", "a1"), asked("q", "a2"))
    b = rows(tmp_path / "b.jsonl", asked("q", "b2"), asked("p", "b1"))
    found = read_answers([a, b], {})
    assert found.models == ["a", "b"]
    assert sorted(texts(found.pairs)) == [("[user] p", "a1", "b1"), ("[user] q", "a2", "b2")]
    assert found.notes == []


def test_prompts_of_one_file_alone_are_counted_and_named(tmp_path: Path) -> None:
    a = rows(tmp_path / "a.jsonl", asked("p", "a1"), asked("q", "a2"), asked("r", "a3"))
    b = rows(tmp_path / "b.jsonl", asked("p", "b1"), asked("s", "b4"))
    found = read_answers([a, b], {})
    assert len(found.pairs) == 1
    assert found.notes == [
        f"2 rows of {a} without an answer to the same prompt in {b}: {a}:2, {a}:3",
        f"1 row of {b} without an answer to the same prompt in {a}: {b}:2",
    ]


def test_files_without_a_common_prompt_are_an_error_that_names_them(tmp_path: Path) -> None:
    a, b = rows(tmp_path / "a.jsonl", asked("p", "x")), rows(tmp_path / "b.jsonl", asked("q", "y"))
    with pytest.raises(RowError, match=r"no two files answer the same prompt(.|\n)*a\.jsonl:1(.|\n)*b\.jsonl:1"):
        read_answers([a, b], {})


def test_ids_join_and_must_mean_the_same_prompt(tmp_path: Path) -> None:
    a = rows(tmp_path / "a.jsonl", asked("p", "a1", id="1"), asked("p", "a2", id="2"))
    b = rows(tmp_path / "b.jsonl", asked("p", "b2", id="2"), asked("p", "b1", id="1"))
    assert texts(read_answers([a, b], {}).pairs) == [("[user] p", "a1", "b1"), ("[user] p", "a2", "b2")]
    b = rows(tmp_path / "b.jsonl", asked("q", "b1", id="1"))
    with pytest.raises(RowError, match=r"a\.jsonl:1: id '1' is another prompt at .*b\.jsonl:1"):
        read_answers([a, b], {})


def test_three_files_make_each_pair_of_models(tmp_path: Path) -> None:
    files = [rows(tmp_path / f"{name}.jsonl", asked("p", name), asked("q", name * 2)) for name in "abc"]
    assert [pair.models for pair in read_answers(files, {}).pairs] == [
        ("a", "b"), ("a", "b"), ("a", "c"), ("a", "c"), ("b", "c"), ("b", "c")
    ]  # fmt: skip


def test_rows_of_other_shapes_and_whole_conversations_are_answers_too(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "p"}, {"role": "assistant", "content": "x"}, {"role": "user", "content": "q"}]
    last = [{"role": "assistant", "content": "y"}]
    a = rows(tmp_path / "a.jsonl", {"messages": turns + last})
    b = rows(tmp_path / "b.jsonl", {"prompt": turns, "completion": "z"})
    pair = read_answers([a, b], {}).pairs[0]
    assert [turn["content"] for turn in pair.prompt] == ["p", "x", "q"]
    assert [said(answer) for answer in pair.answers] == ["y", "z"]
    with pytest.raises(RowError, match=r"a text, which answers no prompt"):
        read_answers([rows(tmp_path / "c.jsonl", {"text": "x"}), b], {})


def test_one_prompt_twice_in_a_file_is_said_and_the_first_answer_taken(tmp_path: Path) -> None:
    a = rows(tmp_path / "a.jsonl", asked("p", "first"), asked("p", "second"))
    found = read_answers([a, rows(tmp_path / "b.jsonl", asked("p", "x"))], {})
    assert texts(found.pairs) == [("[user] p", "first", "x")]
    assert found.notes == [f"1 row with the prompt of an earlier row, whose answer is taken: {a}:2"]


def test_equal_empty_and_repeated_pairs_are_counted_and_named(tmp_path: Path) -> None:
    path = rows(
        tmp_path / "pairs.jsonl",
        {"prompt": "p", "chosen": "x", "rejected": "y"},
        {"prompt": "p", "chosen": "y", "rejected": "x"},  # the same in the other order
        {"prompt": "q", "chosen": "same", "rejected": "same "},
        {"prompt": "r", "chosen": "", "rejected": "y"},
    )
    found = read_pairs(path, {})
    assert found.models == ["chosen", "rejected"]
    assert texts(found.pairs) == [("[user] p", "x", "y"), ("[user] r", "", "y")]
    assert found.notes == [
        f"1 pair of two equal answers, left out: nothing to choose: {path}:3",
        f"1 pair there before (in this order or the other), left out: {path}:2",
        f"1 pair with an empty answer, shown as such: {path}:4",
    ]
    with pytest.raises(RowError, match=r"no pair to judge(.|\n)*equal answers"):
        read_pairs(rows(tmp_path / "equal.jsonl", {"prompt": "q", "chosen": "same", "rejected": "same"}), {})


def test_rows_of_two_answers(tmp_path: Path) -> None:
    found = read_pairs(rows(tmp_path / "two.jsonl", {"prompt": "p", "answers": ["x", "y"]}), {})
    assert (found.models, texts(found.pairs)) == (["first", "second"], [("[user] p", "x", "y")])
    with pytest.raises(RowError, match=r"two\.jsonl:1: 3 answers; `answers` holds the two"):
        read_pairs(rows(tmp_path / "two.jsonl", {"prompt": "p", "answers": ["x", "y", "z"]}), {})


def test_columns_are_mapped(tmp_path: Path) -> None:
    path = rows(tmp_path / "of.jsonl", {"prompt": "p", "completion": "tuned", "base": "plain", "stopped": True})
    found = read_pairs(path, {"chosen": "completion", "rejected": "base"})
    assert texts(found.pairs) == [("[user] p", "tuned", "plain")]


def test_one_file_twice_is_refused(answers: Callable[[int], list[str]]) -> None:
    path = answers(2)[0]
    with pytest.raises(RowError, match="given twice"):
        read_answers([path, path], {})
