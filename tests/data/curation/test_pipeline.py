"""Whole runs of curation: the same result however the work is cut, nothing lost, nothing half-written."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from whet.data.curation import engine, pipeline, source, stage
from whet.data.curation.contract import Context, Outcome, RowStep
from whet.data.curation.pipeline import curate
from whet.data.curation.settings import Curation, check_curation
from whet.data.steps import STEPS
from whet.errors import RecipeError, RowError, StorageError
from whet.recipe.part import Part

NOTHING = {"repair": {"encoding": False, "control": False, "whitespace": False, "unicode": "none"}}


class _Settings(Part):
    remainder: int


class _Odd(RowStep):
    """Drop rows whose `n` leaves a remainder of 3; mark the others where n is a multiple of 5."""

    settings = _Settings

    def __call__(self, records):
        def one(row):
            if row["n"] % 3 == self.set.remainder:
                return Outcome(None, ("remainder",), f"n {row['n']}")
            return Outcome(row | {"five": True}, ("five",)) if row["n"] % 5 == 0 else Outcome(row)

        return [one(record.row) for record in records]


@pytest.fixture(autouse=True)
def _odd(monkeypatch):
    monkeypatch.setitem(STEPS, "odd", _Odd)


def rows(count=50):
    return [{"n": n, "text": f"row {n}  \r\n"} for n in range(count)]


def lines(path, items):
    Path(path).write_text("".join(json.dumps(item) + "\n" for item in items))
    return str(path)


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_rows_reasons_and_rejects_are_those_of_a_plain_loop(tmp_path):
    data = lines(tmp_path / "in.jsonl", rows())
    done = curate(data, [{"odd": {"remainder": 1}}, "repair"], tmp_path / "out.jsonl")
    kept = [row for row in rows() if row["n"] % 3 != 1]
    expected = [{"n": r["n"], "text": f"row {r['n']}"} | ({"five": True} if r["n"] % 5 == 0 else {}) for r in kept]
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == expected
    rejects = [json.loads(line) for line in (tmp_path / "out.rejects.jsonl").read_text().splitlines()]
    assert [reject["row"] for reject in rejects] == [row for row in rows() if row["n"] % 3 == 1]
    assert rejects[0] | {"row": 0} == {
        "place": f"{data}:2", "step": "odd", "reason": "remainder", "detail": "n 1", "row": 0,
    }  # fmt: skip
    odd, repair = done.ledger.plain()["steps"]
    assert (odd["rows_in"], odd["changed"], odd["dropped"], odd["rows_out"]) == (50, 7, 17, 33)
    assert (repair["rows_in"], repair["changed"], repair["rows_out"]) == (33, 33, 33)
    assert odd["reasons"] == {"remainder": 17, "five": 7}
    assert len(odd["examples"]) == 10
    assert {example["reason"] for example in odd["examples"]} == {"remainder", "five"}
    assert json.loads((tmp_path / "out.ledger.json").read_text())["output"]["rows"] == 33


def test_the_same_bytes_however_the_work_is_cut(tmp_path, monkeypatch):
    data = lines(tmp_path / "in.jsonl", rows(500))
    results = []
    cuts = [(512, 10_000, 4096), (7, 10_000, 64), (64, 100, 128)]
    for number, (batch, few, block) in enumerate(cuts):
        monkeypatch.setattr(engine, "BATCH", batch)
        monkeypatch.setattr(engine, "FEW", few)  # the third run goes through daft, in processes
        monkeypatch.setattr(stage, "BLOCK_ROWS", block)
        if few == 100:  # a step of this test's own is not known in another process
            steps = ["repair", {"sample": {"rows": 300}}]
        else:
            steps = ["repair", {"sample": {"rows": 300}}, {"odd": {"remainder": 3}}]
        out = tmp_path / f"out{number}.jsonl"
        ledger = curate(data, steps, out).ledger.plain()
        picked = [{k: v for k, v in e.items() if "second" not in k} for e in ledger["steps"][:2]]
        results.append((picked, [json.loads(line)["n"] for line in out.read_text().splitlines()]))
    assert results[0] == results[1] == results[2]


def test_content_tells_runs_apart():
    def content(seed=0, data=None, **settings):
        curation = check_curation({"seed": seed, "steps": [{"repair": settings}, {"sample": {"rows": 20}}]}, "test")
        return [e["content"] for e in curate(data or rows(), curation).ledger.plain()["steps"]]

    assert content() == content()
    assert content(seed=1)[0] == content()[0]
    assert content(seed=1)[1] != content()[1]
    assert content(whitespace=False)[0] != content()[0]
    assert content(data=[*rows(49), {"n": 0}])[0] != content()[0]


def test_sample_draws_without_replacement_in_order():
    found = [row["n"] for row in curate(rows(), [{"sample": {"rows": 20}}]).rows]
    assert found == sorted(set(found))
    assert len(found) == 20
    assert [row["n"] for row in curate(rows(9), [{"sample": {"rows": 20}}]).rows] == list(range(9))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.lists(st.dictionaries(st.sampled_from(["text", "messages", "a", "b"]), _JSON), min_size=1, max_size=6))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_of_any_content_go_through_whole(found):
    assert curate(found, [NOTHING]).rows == found


def test_broken_lines_are_counted_shown_and_kept(tmp_path):
    good = [json.dumps(row) for row in rows(40)]
    bad = ['{"n": 1', "[1, 2]", '{"text": "\\ud83d"}']
    (tmp_path / "in.jsonl").write_text("\n".join([*good[:20], *bad, "", *good[20:]]))
    done = curate(str(tmp_path / "in.jsonl"), Curation(steps=[NOTHING], max_broken=0.1), tmp_path / "out.jsonl")
    assert done.ledger.rows == 40
    assert done.ledger.reading["broken"] == 3
    places = [place.rsplit(":", 1)[1] for place, _ in done.ledger.reading["first_broken"]]
    assert places == ["21", "22", "23"]
    rejects = [json.loads(line) for line in (tmp_path / "out.rejects.jsonl").read_text().splitlines()]
    assert [reject["raw"] for reject in rejects] == [line + "\n" for line in bad]


def test_too_many_broken_lines_stop_the_run_with_the_first_ten(tmp_path):
    (tmp_path / "in.jsonl").write_text("\n".join(["{"] * 12 + ['{"n": 1}'] * 1000))
    with pytest.raises(RowError, match=r"(?s)12 of 1,012 rows cannot be read, more than 0.1%:.*in.jsonl:10:") as caught:
        curate(str(tmp_path / "in.jsonl"), [NOTHING], tmp_path / "out.jsonl")
    assert "in.jsonl:11:" not in str(caught.value)
    assert left(tmp_path) == ["in.jsonl"]


@pytest.mark.parametrize(
    ("encoding", "setting"),
    [("utf-16", "auto"), ("utf-8-sig", "auto"), ("utf-32", "auto"), ("cp1252", "cp1252"), ("utf-16-le", "utf-16-le")],
)
def test_other_encodings(tmp_path, encoding, setting):
    found = [{"text": "schön"}, {"text": "“quoted”"}]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found)
    (tmp_path / "in.jsonl").write_bytes(text.encode(encoding))
    assert curate(str(tmp_path / "in.jsonl"), Curation(steps=[NOTHING], encoding=setting)).rows == found


def test_latin1_that_nobody_told_of_is_named(tmp_path):
    (tmp_path / "in.jsonl").write_bytes('{"text": "schön"}\n'.encode("latin-1"))
    with pytest.raises(RowError, match="0xF6"):
        curate(str(tmp_path / "in.jsonl"), [NOTHING])
    with pytest.raises(RowError, match="no encoding is called 'latin-x'"):
        curate(str(tmp_path / "in.jsonl"), Curation(steps=[NOTHING], encoding="latin-x"))


def test_a_row_of_50_mb_is_set_aside(tmp_path):
    with (tmp_path / "in.jsonl").open("w") as file:
        file.write('{"text": "a"}\n{"text": "')
        for _ in range(50):
            file.write("b" * (1 << 20))
        file.write('"}\n{"text": "c"}\n')
    done = curate(str(tmp_path / "in.jsonl"), Curation(steps=[NOTHING], max_broken=0.5))
    assert done.rows == [{"text": "a"}, {"text": "c"}]
    [[place, reason]] = done.ledger.reading["first_broken"]
    assert place.endswith(":2")
    assert reason == "a row of 52,428,813 bytes, over max_row_bytes 16,777,216"


def test_a_file_that_grows_while_it_is_read(tmp_path, monkeypatch):
    path = Path(lines(tmp_path / "in.jsonl", rows(9000)))

    def grow(_):
        with path.open("a") as file:
            file.write('{"n": -1, "text": "late"}\n')

    monkeypatch.setattr(pipeline.Progress, "reading", lambda self: grow)
    done = curate(str(path), [NOTHING])
    assert [row["n"] for row in done.rows] == list(range(9000))
    assert "grew while it was read" in done.ledger.reading["warnings"][0]


def test_a_step_that_drops_everything_is_named_and_leaves_nothing(tmp_path):
    data = lines(tmp_path / "in.jsonl", [{"n": 3}, {"n": 6}])
    with pytest.raises(RowError, match=r"step 2, odd, drops every row \(remainder 2\)"):
        curate(data, ["repair", {"odd": {"remainder": 0}}], tmp_path / "out.jsonl")
    assert left(tmp_path) == ["in.jsonl"]


def test_outputs_that_cannot_be(tmp_path):
    data = lines(tmp_path / "in.jsonl", rows(3))
    with pytest.raises(RowError, match=r"does not write \.jsom. Did you mean '\.jsonl'"):
        curate(data, [NOTHING], tmp_path / "out.jsom")
    (tmp_path / "out.jsonl").write_text("mine")
    with pytest.raises(RowError, match="there is a file already"):
        curate(data, [NOTHING], tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == "mine"
    with pytest.raises(StorageError):
        curate(data, [NOTHING], tmp_path / "in.jsonl" / "out.jsonl")
    assert left(tmp_path) == ["in.jsonl", "out.jsonl"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError):
        curate(rows(3), [NOTHING], tmp_path / "out.jsonl")


def test_settings_that_cannot_be():
    with pytest.raises(RecipeError, match=r"no step 'reapir'\. Did you mean 'repair'"):
        check_curation({"steps": ["reapir"]}, "curate.yaml")
    with pytest.raises(RecipeError, match=r"unknown key `steps.1.repair.unicod`. Did you mean 'unicode'"):
        check_curation({"steps": [{"repair": {"unicod": "NFC"}}]}, "curate.yaml")
    with pytest.raises(RecipeError, match=r"no steps"):
        check_curation({}, "curate.yaml")
    with pytest.raises(RecipeError, match=r"`steps\.1\.sample.rows` is missing"):
        check_curation({"steps": ["sample"]}, "curate.yaml")


def test_a_column_that_is_not_there():
    with pytest.raises(RowError, match=r"no column `txt`\. Did you mean 'text'"):
        curate(rows(3), Curation(steps=[NOTHING], columns=["txt"]))


def test_formats_in_and_out(tmp_path):
    found = [{"text": "a", "meta": {"k": [1, 2]}, "n": 1}, {"text": "b", "n": 2.5}, {"text": "c", "meta": {"j": "x"}}]
    curate(found, [NOTHING], tmp_path / "rows.parquet")
    table = pq.read_table(tmp_path / "rows.parquet")
    assert table["n"].to_pylist() == [1.0, 2.5, None]
    assert table["meta"].to_pylist() == [{"k": [1, 2], "j": None}, None, {"k": None, "j": "x"}]
    curate(str(tmp_path / "rows.parquet"), [NOTHING], tmp_path / "rows.jsonl.gz")
    with gzip.open(tmp_path / "rows.jsonl.gz", "rt") as file:
        assert [json.loads(line) for line in file] == found
    curate([{"text": "a,b", "n": 1}, {"text": 'c "d"', "n": 2}], [NOTHING], tmp_path / "rows.csv")
    assert curate(str(tmp_path / "rows.csv"), [NOTHING]).rows == [
        {"text": "a,b", "n": "1"},
        {"text": 'c "d"', "n": "2"},
    ]
    assert curate(str(tmp_path / "*.csv"), [NOTHING]).ledger.rows == 2
    with pytest.raises(RowError, match="nested, which CSV cannot hold"):
        curate(found, [NOTHING], tmp_path / "nested.csv")
    with pytest.raises(RowError, match="column `n` has values of several kinds"):
        curate([{"n": 1}, {"n": "x"}], [NOTHING], tmp_path / "mixed.parquet")
    assert "mixed.parquet" not in left(tmp_path)


def test_a_file_for_each_value(tmp_path):
    found = [{"text": str(n), "split": "test" if n % 5 == 0 else "train"} for n in range(20)]
    done = curate(found, [NOTHING], str(tmp_path / "new" / "rows-{split}.jsonl"))
    counts = {path.name: len(path.read_text().splitlines()) for path in (tmp_path / "new").iterdir()}
    assert counts == {
        "rows-test.jsonl": 4,
        "rows-train.jsonl": 16,
        "rows.rejects.jsonl": 0,
        "rows.ledger.json": counts["rows.ledger.json"],
    }
    assert len(done.files) == 4
    with pytest.raises(RowError, match="names no file"):
        curate([{"split": "../x"}], [NOTHING], str(tmp_path / "{split}.jsonl"))


def test_draws_hang_on_seed_and_salt_alone():
    draw = Context(seed=3).draw("noise", 17)
    again = Context(seed=3, columns=("text",)).draw("noise", 17)
    other = Context(seed=3).draw("noise", 18)
    first = draw.integers(0, 2**40, 4).tolist()
    assert first == again.integers(0, 2**40, 4).tolist()
    assert first != other.integers(0, 2**40, 4).tolist()


def test_lines_are_cut_only_where_they_are_too_long(tmp_path):
    import io

    text = b"short\n" + b"x" * 3000 + b"\n" + b"y" * 10 + b"\n" + b"z" * 11
    found = list(source._lines(io.BytesIO(text), 10))
    assert [(line[:3], size) for line, size in found] == [(b"sho", 6), (b"xxx", 3001), (b"yyy", 11), (b"zzz", 11)]
    assert Counter(len(line) for line, _ in found)[3001] == 0
