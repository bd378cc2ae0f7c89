"""The step `decontaminate` against a slow, obvious version; planted questions, and real sets where there are any."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whet.data.curation.pipeline import curate
from whet.data.near.contamination import Index
from whet.errors import RowError

SHARED = Path(__file__).parents[3] / "../shared/data"
Row = dict[str, Any]
TEXT = st.lists(st.sampled_from("abc"), max_size=9).map(" ".join)
ROWS = st.lists(st.lists(TEXT, max_size=3), max_size=6)


def plain_words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())


def runs(text: str, size: int) -> set[tuple[str, ...]]:
    words = plain_words(text)
    return {tuple(words[k : k + size]) for k in range(len(words) - size + 1)}


def is_found(texts: list[str], evaluation: list[list[str]], n: int, shortest: int, share: float) -> bool:
    """What near/contamination.py says, word by word."""
    for row in evaluation:
        for text in row:
            size = min(len(plain_words(text)), n)
            if size >= shortest and any(runs(text, size) & runs(mine, size) for mine in texts):
                return True
        asked = [text for text in row if plain_words(text)]
        if asked and len(plain_words(asked[0])) < shortest:
            question, others = plain_words(asked[0]), asked[1:]
            if any(plain_words(mine) == question for mine in texts):
                return True
            there = sum(any(runs(text, len(plain_words(text))) & runs(mine, len(plain_words(text))) for mine in texts)
                        for text in others)  # fmt: skip
            inside = any(runs(asked[0], len(question)) & runs(mine, len(question)) for mine in texts)
            if inside and others and there >= share * len(others):
                return True
    return False


@given(ROWS, ROWS, st.integers(2, 6), st.integers(1, 6), st.sampled_from([0.5, 0.8, 1.0]))
@settings(max_examples=400, deadline=None)
def test_what_is_found_is_what_comparing_words_finds(
    evaluation: list[list[str]], rows: list[list[str]], n: int, shortest: int, share: float
) -> None:
    found = Index(evaluation, n, shortest, share).find(rows)
    assert [piece is not None for piece in found] == [is_found(r, evaluation, n, min(shortest, n), share) for r in rows]


def write(path: Path, rows: list[Row]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


LONG = "If a train leaves at nine and another at ten, which of the two arrives in Vienna first?"


def test_rows_go_with_the_place_that_they_are_from(tmp_path: Path) -> None:
    evaluation = [{"question": "Why?", "answer": "no"}, {"question": LONG, "answer": "The first."}]
    held = write(tmp_path / "eval.jsonl", evaluation)
    loud = LONG.upper().replace(",", " --")
    rows = [{"text": f"Quiz: {loud}"}, {"text": "A train leaves at nine."}, {"text": "why"}]
    source = write(tmp_path / "in.jsonl", rows)
    curate(source, [{"decontaminate": {"against": [held]}}], tmp_path / "out.jsonl")
    rejects = [json.loads(line) for line in (tmp_path / "out.rejects.jsonl").open()]
    assert [(r["row"], r["detail"]) for r in rejects] == [
        (rows[0], f"{held}:2, 13 words"),
        (rows[2], f"{held}:1, 1 words"),
    ]
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").open()] == [rows[1]]


def test_flagged_rows_stay_with_what_they_contain_in_a_column(tmp_path: Path) -> None:
    held = write(tmp_path / "eval.jsonl", [{"question": LONG}])
    done = curate([{"text": LONG}, {"text": "b"}], [{"decontaminate": {"against": [held], "action": "flag"}}])
    assert done.rows == [{"text": LONG, "contaminated": f"{held}:1, 13 words"}, {"text": "b"}]


def test_a_short_question_is_itself_with_its_options_or_as_the_whole_of_a_text(tmp_path: Path) -> None:
    held = tmp_path / "eval.csv"
    held.write_text("question,A,B,answer\nWhat are histones?,basic lipids,nuclear proteins,B\n")
    rows = [
        {"prompt": "What are HISTONES", "completion": "Proteins."},
        {"text": "Q: What are histones? (a) basic lipids (b) nuclear proteins. Answer: B"},
        {"text": "My teacher asked: what are histones? I said: nuclear proteins."},
    ]
    step = {"against": [str(held)]}
    assert curate([*rows, {"text": "b"}], [{"decontaminate": step}]).rows == [rows[2], {"text": "b"}]
    step |= {"columns": ["question"], "shortest": 3}
    assert curate([*rows, {"text": "b"}], [{"decontaminate": step}]).rows == [{"text": "b"}]


def test_evaluation_files_without_text_or_that_are_not_there_are_named(tmp_path: Path) -> None:
    held = write(tmp_path / "eval.jsonl", [{"question": LONG}])
    with pytest.raises(RowError, match="no text in prompt"):
        curate([{"text": "a"}], [{"decontaminate": {"against": [held], "columns": ["prompt"]}}])
    with pytest.raises(RowError, match="no such file"):
        curate([{"text": "a"}], [{"decontaminate": {"against": [str(tmp_path / "none.jsonl")]}}])


@pytest.mark.skipif(not (SHARED / "eval" / "mmlu").is_dir(), reason="MMLU is not there")
def test_every_planted_mmlu_question_is_found(tmp_path: Path) -> None:
    with zipfile.ZipFile(SHARED / "eval" / "mmlu" / "mmlu.zip") as file:
        names = sorted(name for name in file.namelist() if re.fullmatch(r"data/test/\w+\.csv", name))
        found = [row for name in names for row in csv.reader(io.StringIO(file.read(name).decode()))]
    columns = ("question", *"ABCD", "answer")
    held = write(tmp_path / "mmlu.jsonl", [dict(zip(columns, row, strict=True)) for row in found])
    with_options = ["{}\n\nA. {}\nB. {}\nC. {}\nD. {}\nAnswer:", "{} ({}; {}; {}; {})"]
    planted = [
        *({"prompt": row[0].upper(), "completion": "?"} for row in found),
        *({"messages": [{"role": "user", "content": way.format(*row)}, {"role": "assistant", "content": row[5]}]}
          for way in with_options for row in found),
        {"text": "nothing of it"},
    ]  # fmt: skip
    done = curate(planted, [{"decontaminate": {"against": [held]}}])
    assert done.rows == planted[-1:]


@pytest.mark.skipif(not (SHARED / "instruct" / "gsm8k").is_dir(), reason="GSM8K is not there")
def test_the_overlap_of_gsm8k_is_what_sets_of_tuples_say() -> None:
    folder = SHARED / "instruct/gsm8k"
    train, test = ([json.loads(line) for line in (folder / f"{name}.jsonl").open()] for name in ("train", "test"))
    texts = [text for row in test for text in row.values()]
    pieces = {run for text in texts for run in runs(text, min(max(len(plain_words(text)), 8), 13))}
    expected = [row for row in train if not any(runs(t, size) & pieces for t in row.values() for size in range(8, 14))]
    done = curate(train, [{"decontaminate": {"against": [str(folder / "test.jsonl")]}}])
    assert done.rows == expected
    assert len(train) - len(expected) == 10
