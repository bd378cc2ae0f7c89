"""python, code and function: many rows, of which some fail, hang or lie; the others keep their scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from whet.errors import RecipeError
from whet.graders import Grade, build
from whet.graders.confined import Limits
from whet.recipe.graders import CodePart, FunctionPart, PythonPart


def scores(found: list[Grade]) -> list[float | None]:
    return [grade.score for grade in found]


SOURCE = """
import os, sys, time
seen = []

def grade(sample, item):
    seen.append(1)
    print("noise")
    kind = item["kind"]
    if kind == "hang":
        while True: pass
    if kind == "raise":
        raise KeyError("lost")
    if kind == "exit":
        sys.exit(0)
    if kind == "gone":
        os._exit(0)
    if kind == "nan":
        return float("nan")
    if kind == "text":
        return "good"
    if kind == "memory":
        return len(bytearray(1 << 40))
    if kind == "count":
        return len(seen)
    if kind == "json":
        return sample["output_json"]["n"] + 0.5
    return len(sample["output_text"])
"""


def test_rows_that_fail_cost_no_other_row_its_score(confined: Limits) -> None:
    grader = build(PythonPart(name="mine", source=SOURCE, timeout=1, memory_mb=256))
    kinds = ["", "hang", "", "raise", "exit", "gone", "nan", "text", "memory", "json", ""]
    rows = [{"kind": kind, "place": f"rows.jsonl:{n}"} for n, kind in enumerate(kinds, 1)]
    answers = ['{"n": 2}' if kind == "json" else "four" for kind in kinds]
    found = grader.grade(rows, answers)
    assert scores(found) == [4, None, 4, None, None, None, None, None, None, 2.5, 4]
    faults = {kind: str(grade.fault) for kind, grade in zip(kinds, found, strict=True) if grade.fault}
    assert faults["hang"] == "mine, rows.jsonl:2: no result in 1 s"
    assert faults["raise"] == "mine, rows.jsonl:4: KeyError: 'lost'"
    assert faults["exit"].endswith("SystemExit: 0")
    assert "exit code 0 and no result" in faults["gone"]
    assert "nan, which is no finite number" in faults["nan"]
    assert "could not convert" in faults["text"]
    assert "MemoryError" in faults["memory"]


def test_many_rows_share_a_process_and_stay_in_order(confined: Limits) -> None:
    grader = build(PythonPart(source=SOURCE, concurrency=2))
    counts = scores(grader.grade([{"kind": "count"}] * 40, [""] * 40))
    assert counts == [*range(1, 21), *range(1, 21)]  # two processes of twenty rows
    lengths = scores(grader.grade([{"kind": ""}] * 40, ["x" * n for n in range(40)]))
    assert lengths == list(range(40))
    assert grader.grade([], []) == []
    long = "x" * 3_000_000  # more than a pipe holds
    assert scores(grader.grade([{"kind": "", "more": long}] * 2, [long] * 2)) == [3_000_000] * 2


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import nothing_of_this_name", "No module named"),
        ("score = 1", "no function `grade(sample, item)`"),
        ("while True: pass", "no result in 0.3 s"),
        ("import os; os._exit(3)", "exit code 3"),
        ("def grade(one): return 1", "positional argument"),
    ],
)
def test_a_source_that_fails_gives_no_score(confined: Limits, source: str, said: str) -> None:
    found = build(PythonPart(source=source, timeout=0.3)).grade([{}, {}], ["a", "b"])
    assert scores(found) == [None, None]
    assert said in str(found[1].fault)


TESTS = "assert add(2, 3) == 5\nassert add(-1, 1) == 0"
RIGHT = "Here it is:\n```python\ndef add(a, b):\n    return a + b\n```\nIt adds."


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (RIGHT, 1),
        ("def add(a, b): return a + b", 1),
        ("```\ndef add(a, b):\n    return a + b\n```", 1),
        ("```python\ndef add(a, b):\n    return a - b\n```", 0),
        ("```python\ndef add(a, b)\n```", 0),
        ("I cannot do that.", 0),
        ("```python\nimport sys\nsys.exit(0)\n```", 0),  # leaving early is not passing
        ("```python\nimport os\nos._exit(0)\n```", 0),
        ("```python\nimport sys\ndef add(a, b): sys.exit(0)\n```", 0),
        ("```python\nwhile True: pass\n```", 0),
        ("```python\ndef add(a, b):\n    return bytearray(1 << 40)\n```", 0),
        ("```python\nimport urllib.request as r\nr.urlopen('http://127.0.0.1:9')\ndef add(a, b): return a + b\n```", 0),
        (f"{RIGHT} So\n```python\nprint(add(1, 2))\n```\nsays\n```\n3\n```", 1),
    ],
)
def test_code(confined: Limits, answer: str, expected: float) -> None:
    [grade] = build(CodePart(timeout=1, memory_mb=256)).grade([{"tests": TESTS}], [answer])
    assert (grade.score, grade.fault) == (expected, None)


def test_tests_in_other_forms(confined: Limits) -> None:
    unit = (
        "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        self.assertEqual(add(2, 3), {})\n"
        "unittest.main()"
    )
    rows: list[dict[str, Any]] = [
        {"tests": TESTS.splitlines()}, {"tests": unit.format(5)}, {"tests": unit.format(6)}, {"tests": ""},
        {"tests": "assert add("}, {},
    ]  # fmt: skip
    found = build(CodePart()).grade(rows, [RIGHT] * 6)
    assert scores(found) == [1, 1, 0, None, None, None]
    assert [str(grade.fault) for grade in found[3:]] == [
        "code, row 4: the row has no tests",
        "code, row 5: the tests are no Python: SyntaxError: '(' was never closed (<tests>, line 1)",
        "code, row 6: no `item.tests`",
    ]


OWN = """
import time

def polite(completions, wanted=(), **columns):
    return [float(word in text) if word else None for text, word in zip(completions, wanted)]

def fails(completions, wanted, **columns):
    return [1 / len(word) for word in wanted]

def hangs(completions, **columns):
    time.sleep(30)

def few(completions, **columns):
    return [1.0]

def endless(completions, **columns):
    return [float("inf")] * len(completions)

def leaves(completions, **columns):
    raise SystemExit(0)
"""
ROWS = [{"wanted": "please"}, {"wanted": ""}, {"wanted": "thanks", "more": 1}]
ANSWERS = ["please", "x", "x"]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def test_a_function_of_the_users(own: Path) -> None:
    found = build(FunctionPart(function=f"{own}:polite")).grade(ROWS, ANSWERS)
    assert scores(found) == [1, None, 0]
    assert found[1].fault == "function, row 2: it gave None"


def test_a_function_that_raises_is_blamed_on_its_row(own: Path) -> None:
    found = build(FunctionPart(function=f"{own}:fails")).grade(ROWS, ANSWERS)
    assert scores(found) == [pytest.approx(1 / 6), None, pytest.approx(1 / 6)]
    assert found[1].fault == "function, row 2: ZeroDivisionError: division by zero"


def test_a_function_that_hangs_is_left_to_itself(own: Path) -> None:
    grader = build(FunctionPart(function=f"{own}:hangs", timeout=0.1))
    found = grader.grade(ROWS, ANSWERS)
    assert scores(found) == [None] * 3
    assert found[2].fault == "function, row 3: no result in 0.1 s"
    assert "not called again" in str(grader.grade(ROWS, ANSWERS)[2].fault)


@pytest.mark.parametrize(("name", "said"), [("few", "1 numbers for 3"), ("endless", "inf"), ("leaves", "SystemExit")])
def test_functions_that_give_no_score(own: Path, name: str, said: str) -> None:
    found = build(FunctionPart(function=f"{own}:{name}")).grade(ROWS, ANSWERS)
    if name == "few":  # alone each row has its one number
        assert scores(found) == [1, 1, 1]
    else:
        assert scores(found) == [None] * 3
        assert said in str(found[0].fault)


def test_functions_that_are_not_there(own: Path) -> None:
    with pytest.raises(RecipeError, match=r"no function 'plite'. Did you mean 'polite'"):
        build(FunctionPart(function=f"{own}:plite"))
    with pytest.raises(RecipeError, match="FileNotFoundError"):
        build(FunctionPart(function=f"{own.with_name('none.py')}:polite"))
