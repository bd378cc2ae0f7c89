"""Files into rows: every format against the library that wrote it, and every broken file against its message."""

from __future__ import annotations

import csv
import gzip
import json
import math
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from whet.data import read
from whet.data.formats import records
from whet.errors import RowError
from whet.recipe import DataPart

PAIRS = [{"prompt": f'What is {n}, plus "one"?\nSay.', "completion": f"{n + 1} ☃"} for n in range(5)]


def rows_of(path: str) -> list[dict]:
    return [row for _, row in records(Path(path), path)]


def fault(path: str, **part: object) -> str:
    with pytest.raises(RowError) as caught:
        read([DataPart(path=path, **part)])
    return str(caught.value)


def test_every_format_gives_the_rows_that_its_writer_was_given(folder):
    text = "".join(json.dumps(row) + "\n" for row in PAIRS)
    Path("a.jsonl").write_text(text)
    Path("a.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    Path("a.json").write_text(json.dumps(PAIRS, indent=2))
    Path("keyed.json").write_text(json.dumps({str(n): row for n, row in enumerate(PAIRS)}))
    Path("inside.json").write_text(json.dumps({"version": 2, "data": PAIRS}))
    Path("lines.json").write_text(text)
    with Path("a.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["prompt", "completion"])
        writer.writeheader()
        writer.writerows(PAIRS)
    parquet.write_table(pyarrow.Table.from_pylist(PAIRS), "a.parquet")
    for name in ("a.jsonl", "a.jsonl.gz", "a.json", "inside.json", "lines.json", "a.csv", "a.parquet"):
        assert rows_of(name) == PAIRS, name
    assert rows_of("keyed.json") == [{"id": str(n), **row} for n, row in enumerate(PAIRS)]


def test_places_are_physical_lines_or_row_numbers(folder):
    text = json.dumps(PAIRS[0])
    Path("a.jsonl").write_text(f"\n{text}\n  \n\n{text}\n")
    Path("a.json").write_text(json.dumps(PAIRS[:2]))
    Path("a.txt").write_text("\n\none\ntwo\n\n\nthree\n")
    assert [place for place, _ in records(Path("a.jsonl"), "./a.jsonl")] == ["./a.jsonl:2", "./a.jsonl:5"]
    assert [place for place, _ in records(Path("a.json"), "a.json")] == ["a.json:row 1", "a.json:row 2"]
    assert records(Path("a.txt"), "a.txt") == [("a.txt:3", {"text": "one\ntwo"}), ("a.txt:7", {"text": "three"})]


def test_text_without_blank_lines_is_a_row_a_line(folder):
    Path("a.txt").write_bytes("\n  one\r\ntwo \u2028 still two\nthree".encode())
    assert rows_of("a.txt") == [{"text": "  one"}, {"text": "two \u2028 still two"}, {"text": "three"}]


def test_a_line_of_json_may_hold_other_line_breaks(folder):
    row = {"text": "a\u2028b\x85c\x0bd"}
    Path("a.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\r\n", encoding="utf-8", newline="")
    assert rows_of("a.jsonl") == [row]


def test_byte_order_mark_is_accepted(folder):
    for name, text in {"a.jsonl": '{"text": "é"}', "a.json": '[{"text": "é"}]', "a.csv": "text\né\n"}.items():
        Path(name).write_text(text, encoding="utf-8-sig")
        assert rows_of(name) == [{"text": "é"}], name


def test_nan_and_infinity_are_numbers(folder):
    Path("a.jsonl").write_text('{"text": "x", "score": NaN, "other": -Infinity}')
    (row,) = rows_of("a.jsonl")
    assert math.isnan(row["score"])
    assert row["other"] == -math.inf


def test_an_empty_csv_cell_is_no_column(folder):
    Path("a.csv").write_text("instruction , input,output\nAdd,1 2,3\nGreet,,Hello\n")
    first, second = read([DataPart(path="a.csv")])
    assert first.messages[0]["content"] == "Add\n\n1 2"
    assert second.messages[0]["content"] == "Greet"


def test_a_csv_field_may_be_longer_than_the_library_allows(folder):
    long = "word " * 60_000
    with Path("a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text"], [long]])
    assert rows_of("a.csv") == [{"text": long}]


def test_parquet_drops_the_nulls_that_arrow_adds(folder):
    rows = [
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho", "weight": 1}]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "id": "x"},
    ]
    table = pyarrow.Table.from_pylist(rows, pyarrow.schema([
        ("id", pyarrow.string()),
        ("messages", pyarrow.list_(pyarrow.struct([
            ("role", pyarrow.string()), ("content", pyarrow.string()), ("weight", pyarrow.int64()),
        ]))),
    ]))  # fmt: skip
    parquet.write_table(table, "a.parquet")
    assert table.to_pylist()[1]["messages"][0]["weight"] is None
    assert rows_of("a.parquet") == rows


def test_broken_json_names_line_and_column(folder):
    good = json.dumps({"text": "x"}) + "\n"
    Path("a.jsonl").write_text(good * 6 + '{"text": "x", oops}\n' + good)
    Path("cut.jsonl").write_text(good + '{"text": "x"')
    Path("a.json").write_text('[\n {"text": "x"},\n {"text" "y"}\n]')
    assert fault("a.jsonl").startswith("a.jsonl:7: broken JSON at column 15: ")
    assert fault("cut.jsonl").startswith("cut.jsonl:2: broken JSON at column 13: ")
    assert fault("a.json").startswith("a.json:3: broken JSON at column 10: ")


def test_json_that_python_cannot_hold_is_a_row_error(folder):
    Path("deep.jsonl").write_text('{"text": ' + "[" * 200_000)
    Path("long.jsonl").write_text('{"text": "x", "n": ' + "9" * 5000 + "}")
    Path("half.jsonl").write_text('{"text": "fine \\ud83d\\ude00"}\n{"text": "cut \\ud83d"}\n')
    assert fault("deep.jsonl").startswith("deep.jsonl:1: ")
    assert fault("long.jsonl").startswith("long.jsonl:1: ")
    assert fault("half.jsonl").startswith("half.jsonl:2: half of a character ('\\ud83d'")


def test_rows_that_are_not_objects(folder):
    Path("a.jsonl").write_text('{"text": "x"}\n"x"\n')
    Path("list.jsonl").write_text('[{"text": "x"}]')
    Path("a.json").write_text('[{"text": "x"}, 3]')
    Path("number.json").write_text("3")
    Path("none.json").write_text('{"a": "yes", "b": "no"}')
    Path("two.json").write_text('{"train": [{"text": "x"}], "test": [{"text": "y"}]}')
    assert fault("a.jsonl") == "a.jsonl:2: text, but a row is an object"
    assert "ends in .json" in fault("list.jsonl")
    assert fault("a.json") == "a.json:row 2: a number, but a row is an object"
    assert fault("number.json") == "number.json: the file holds a number, not rows"
    assert "no list of rows (keys: `a`, `b`)" in fault("none.json")
    assert "2 lists of rows (`train`, `test`)" in fault("two.json")


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet", "a.txt", "a.jsonl.gz"])
def test_empty_files(folder, name):
    Path(name).touch()
    assert fault(name) == f"{name}: the file is empty"


@pytest.mark.parametrize(("name", "content"), [("a.jsonl", "\n \n"), ("a.csv", "text\n"), ("a.json", "[]")])
def test_files_without_rows(folder, name, content):
    Path(name).write_text(content)
    assert fault(name) == f"{name}: no rows in this file"


def test_not_utf8_says_which_byte(folder):
    Path("a.jsonl").write_bytes(b'{"text": "x"}\n{"text": "caf\xe9"}\n')
    Path("a.txt").write_bytes(b"one\ntwo\ncaf\xe9\n")
    Path("a.csv").write_text("text\nx\n", encoding="utf-16")
    assert fault("a.jsonl").startswith("a.jsonl:2: not UTF-8: byte 27 is 0xE9")
    assert fault("a.txt").startswith("a.txt:3: not UTF-8: byte 11 is 0xE9")
    assert fault("a.csv").startswith("a.csv: UTF-16, not UTF-8")


def test_ragged_csv(folder):
    Path("a.csv").write_text('prompt,completion\n"one\nline",x\ntwo,x,y\n')
    Path("short.csv").write_text("prompt,completion\none\n")
    assert fault("a.csv").startswith("a.csv:row 2: 3 fields where the header has 2 (at line 4)")
    assert fault("short.csv").startswith("short.csv:row 1: 1 fields where the header has 2 (at line 2)")


def test_csv_that_would_be_misread_in_silence(folder):
    Path("open.csv").write_text('prompt,completion\na,"never closed\nb,c\nd,e\n')
    Path("twice.csv").write_text("text,text\na,b\n")
    Path("other.csv").write_text("prompt;completion\na;b\n")
    assert fault("open.csv").startswith("open.csv:row 1: broken CSV at line 4: ")
    assert fault("twice.csv") == "twice.csv: the header names `text` twice"
    assert fault("other.csv").startswith("other.csv: fields are separated by ';'")


def test_broken_parquet_and_gzip(folder):
    parquet.write_table(pyarrow.Table.from_pylist(PAIRS * 100), "a.parquet")
    Path("cut.parquet").write_bytes(Path("a.parquet").read_bytes()[:-20])
    Path("cut.jsonl.gz").write_bytes(gzip.compress(json.dumps(PAIRS).encode())[:-20])
    Path("plain.jsonl.gz").write_text('{"text": "x"}')
    assert fault("cut.parquet").startswith("cut.parquet: broken Parquet: ")
    assert fault("cut.jsonl.gz").startswith("cut.jsonl.gz: cannot be read: ")
    assert fault("plain.jsonl.gz").startswith("plain.jsonl.gz: cannot be read: Not a gzipped file")
