"""The reader as the recipe calls it: where rows come from, sampling, mapping, weights, and one shape a file."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from whet.data import read
from whet.errors import MissingExtra, RecipeError, RowError
from whet.recipe import DataPart


def texts(*parts: DataPart, **options: object) -> list[str]:
    return [example.text for example in read(list(parts), **options)]


def fault(path: str, **part: object) -> str:
    with pytest.raises(RowError) as caught:
        read([DataPart(path=path, **part)])
    return str(caught.value)


def test_a_folder_is_read_in_order_of_name_with_its_sub_folders(folder, lines):
    for name in ("sub/deep", ".git", "__MACOSX"):
        (folder / "d" / name).mkdir(parents=True)
    lines({"text": "2"}, name="d/b.jsonl")
    lines({"text": "3"}, name="d/sub/deep/a.jsonl")
    lines({"text": "hidden"}, name="d/.git/a.jsonl")
    lines({"text": "hidden"}, name="d/__MACOSX/a.jsonl")
    (folder / "d" / "a.csv").write_text("text\n1\n")
    (folder / "d" / "notes.txt").write_text("not data")
    (folder / "d" / "README.md").write_text("not data")
    found = read([DataPart(path="d/")])
    assert [example.text for example in found] == ["1", "2", "3"]
    assert [example.place for example in found] == ["d/a.csv:row 1", "d/b.jsonl:1", "d/sub/deep/a.jsonl:1"]


def test_a_folder_of_text_is_a_corpus_without_its_licence(folder):
    (folder / "books").mkdir()
    for name in ("b.txt", "a.txt", "LICENSE.txt", "Readme.txt"):
        (folder / "books" / name).write_text(f"in {name}")
    assert texts(DataPart(path="books")) == ["in a.txt", "in b.txt"]


def test_samples_are_seeded_ordered_and_without_replacement(lines):
    path = lines(*({"text": str(n)} for n in range(200)))
    once = texts(DataPart(path=f"{path}#50"))
    assert len(set(once)) == 50
    assert once == sorted(once, key=int)
    assert once == texts(DataPart(path=f"{path}#50"))
    assert once == texts(DataPart(path=path, limit=50))
    assert once != texts(DataPart(path=f"{path}#50"), seed=1)
    assert len(texts(DataPart(path=f"{path}#50", limit=20))) == 20
    assert texts(DataPart(path=f"{path}#500")) == [str(n) for n in range(200)]


def test_a_sample_keeps_the_places_of_its_rows(lines):
    path = lines(*({"text": str(n)} for n in range(1, 30)))
    for example in read([DataPart(path=f"{path}#5")]):
        assert example.place == f"rows.jsonl:{example.text}"


def test_a_folder_that_has_a_hash_in_its_name(folder, lines):
    (folder / "run#1").mkdir()
    lines({"text": "a"}, {"text": "b"}, name="run#1/rows.jsonl")
    assert texts(DataPart(path="run#1")) == ["a", "b"]
    assert len(texts(DataPart(path="run#1#1"))) == 1
    with pytest.raises(RecipeError, match="samples no rows"):
        read([DataPart(path="run#1#0")])


def test_parts_are_joined_in_order_and_weighted(lines):
    first = lines({"text": "a", "weight": 0.5}, {"text": "b"}, name="a.jsonl")
    second = lines({"text": "c", "weight": "2", "id": 7, "group": "g"}, name="b.jsonl")
    found = read([DataPart(path=first, weight=3), DataPart(path=second)])
    assert [(example.text, example.weight) for example in found] == [("a", 1.5), ("b", 3.0), ("c", 2.0)]
    assert (found[2].id, found[2].group, found[0].id, found[0].group) == ("7", "g", None, None)


@pytest.mark.parametrize("weight", [-1, "heavy", float("nan"), float("inf"), [1]])
def test_weights_that_are_none(lines, weight):
    assert "rows.jsonl:1: `weight` is" in fault(lines({"text": "a", "weight": weight}))


def test_columns_are_mapped_and_the_rest_is_extra(examples):
    row = {"question": "2+2?", "answer": "4", "source": "me", "none": None}
    (found,) = examples(row, columns={"prompt": "question", "completion": "answer"})
    assert [turn["content"] for turn in found.messages] == ["2+2?", "4"]
    assert found.extra == {"source": "me"}


def test_columns_are_joined(examples):
    row = {"CONTEXTS": ["One.", "Two."], "QUESTION": "Why?", "a+b": "Because."}
    columns = {"prompt": "CONTEXTS+QUESTION", "completion": "a+b"}
    with_context, without = examples(row, {**row, "CONTEXTS": None}, columns=columns)
    assert with_context.messages[0]["content"] == "One.\nTwo.\n\nWhy?"
    assert with_context.messages[1]["content"] == "Because."
    assert without.messages[0]["content"] == "Why?"


def test_swapping_two_columns(examples):
    columns = {"prompt": "completion", "completion": "prompt"}
    (found,) = examples({"prompt": "a", "completion": "q"}, columns=columns)
    assert [turn["content"] for turn in found.messages] == ["q", "a"]


def test_a_mapped_column_may_be_missing_in_a_row_but_not_in_the_file(lines):
    path = lines({"prompt": "a", "answer": "b"}, {"prompt": "c"})
    assert fault(path, columns={"completion": "answer"}).startswith("rows.jsonl:2: no `completion` here")
    wrong = fault(path, columns={"completion": "anwser"})
    assert wrong.startswith("rows.jsonl: no column `anwser` in this file. Did you mean 'answer'?")
    assert "`prompt`, `answer`" in wrong


def test_only_texts_can_be_joined(lines):
    path = lines({"a": {"x": 1}, "b": "c"})
    assert fault(path, columns={"text": "a+b"}) == "rows.jsonl:1: `a` is an object; only texts can be joined"


@pytest.mark.parametrize(
    ("row", "objective", "mapping"),
    [
        ({"question": "q", "answer": "a"}, "sft", {"prompt": "question", "completion": "answer"}),
        ({"query": "q", "response": "a"}, "sft", {"prompt": "query", "completion": "response"}),
        ({"input": "q", "output": "a"}, "sft", {"prompt": "input"}),
        ({"Question": "q", "LONG_ANSWER": "a"}, "sft", {"prompt": "Question", "completion": "LONG_ANSWER"}),
        ({"prompt": "q", "my, answer": "a"}, "sft", {"completion": "my, answer"}),
        ({"context": "c", "question": "q", "answers": ["a"]}, "sft",
         {"prompt": "context+question", "completion": "answers"}),
        ({"instruction": "i", "context": "c", "response": "a"}, "sft", {"input": "context", "output": "response"}),
        ({"definition": "d", "input": "i", "output": ["a"]}, "sft", {"instruction": "definition", "output": "output"}),
        ({"chat": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}, "sft",
         {"messages": "chat"}),
        ({"title": "t", "content": "c"}, "sft", {"text": "content"}),
        ({"question": "q", "chosen": "a", "rejected": "b"}, "dpo", {"prompt": "question"}),
        ({"prompt": "q", "winner": "a", "loser": "b"}, "dpo", {"chosen": "winner", "rejected": "loser"}),
        ({"question": "q", "answer": "a", "label": True}, "kto", {"prompt": "question", "completion": "answer"}),
        ({"question": "q", "solution": "a"}, "grpo", {"prompt": "question"}),
        ({"messages": [{"role": "user", "content": "q"}]}, "grpo", {"prompt": "messages"}),
    ],
)  # fmt: skip
def test_the_mapping_that_an_error_proposes_is_right_and_works(lines, row, objective, mapping):
    path = lines(row)
    with pytest.raises(RowError) as caught:
        read([DataPart(path=path)], objective)
    proposed = re.search(r"data\.columns=(\{.*\})", caught.value.do)
    assert yaml.safe_load(proposed[1]) == mapping
    (example,) = read([DataPart(path=path, columns=mapping)], objective)
    assert example.messages or example.prompt or example.text


def test_what_only_the_user_can_know_is_left_open(lines):
    assert "data.columns={prompt: dialogue, completion: ...}" in fault(lines({"dialogue": "x", "section_text": "y"}))
    unknown = fault(lines({"a": 1, "b": [2]}))
    assert "no shape recognised: has `a`, `b`" in unknown
    assert "'data.columns={prompt: ..., completion: ...}'; whet reads `messages`, " in unknown


def test_rows_of_two_shapes_in_a_file_name_both_places(lines):
    path = lines({"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}, {"text": "e"})
    assert fault(path).startswith("rows.jsonl:3: `text` here, but `prompt + completion` at rows.jsonl:1")
    path = lines({"text": "c"}, {"messages": [{"role": "assistant", "content": "b"}], "text": None})
    assert fault(path).startswith("rows.jsonl:2: `messages` here, but `text` at rows.jsonl:1")


def test_a_column_that_only_one_row_lacks(folder):
    (folder / "a.csv").write_text("prompt,completion\na,b\nc,\n")
    assert fault("a.csv") == "a.csv:row 2: no `completion` here (or an empty one), unlike a.csv:row 1"


def test_files_of_different_shapes_may_be_read_together(lines):
    parts = [lines({"text": "a"}, name="a.jsonl"), lines({"prompt": "a", "completion": "b"}, name="b.jsonl")]
    assert [example.shape for example in read([DataPart(path=path) for path in parts])] == ["text", "conversation"]


def test_files_that_are_not_there(folder, lines):
    lines({"text": "a"}, name="train.jsonl")
    (folder / "empty").mkdir()
    assert fault("trian.jsonl").startswith("trian.jsonl: no such file. Did you mean 'train.jsonl'?")
    assert fault("no/where.jsonl") == "no/where.jsonl: no such file: there is no folder no"
    assert "write hub:openai/gsm8k" in fault("openai/gsm8k")
    assert ": no such file" in fault("long " * 1000 + "#5")
    assert fault("empty").startswith("empty: no data in this folder")
    assert fault("s3://bucket/a.jsonl").startswith("s3://bucket/a.jsonl: s3:// is not read yet")


def test_unknown_formats(folder):
    (folder / "a.jsnol").write_text("x")
    (folder / "a").write_text("x")
    assert fault("a.jsnol").startswith("a.jsnol: whet does not read .jsnol. Did you mean '.jsonl'?")
    assert fault("a").startswith("a: whet does not read files without an ending.")


def test_unknown_objective(lines):
    with pytest.raises(RecipeError, match=r"unknown objective 'dop'\. Did you mean 'dpo'"):
        read([DataPart(path=lines({"text": "a"}))], "dop")


def test_hub_reads_through_datasets(folder, lines, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
    (folder / "d").mkdir()
    rows = [{"prompt": str(n), "completion": "x", "note": None if n else "n"} for n in range(6)]
    lines(*rows, name="d/test.jsonl")
    reference = datasets.load_dataset("d", split="test").to_list()
    found = read([DataPart(path="hub:d", split="test")])
    assert [example.messages[0]["content"] for example in found] == [row["prompt"] for row in reference]
    assert [example.place for example in found] == [f"hub:d:row {n}" for n in range(1, 7)]
    assert [example.extra for example in found] == [{"note": "n"}, {}, {}, {}, {}, {}]
    assert len(read([DataPart(path="hub:d#2", split="test")])) == 2
    assert "hub:d: `datasets` cannot read it: " in fault("hub:d", split="nope")


def test_hub_without_datasets_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=re.escape("pip install 'whet[hub]'")):
        read([DataPart(path="hub:openai/gsm8k")])


def test_rows_are_as_json_has_them(lines):
    rows = [{"text": f"é {n}", "nested": {"a": [1, None]}} for n in range(3)]
    path = lines(*rows)
    reference = [json.loads(line) for line in Path(path).read_text().splitlines()]
    found = read([DataPart(path=path)])
    assert [{"text": example.text, **example.extra} for example in found] == reference
