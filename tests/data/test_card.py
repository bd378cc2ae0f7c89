"""A card of rows whose faults were planted and are counted by hand."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from whet.data.card import card, write
from whet.data.card.tally import Column, shape_of
from whet.errors import RecipeError

STORY = "The old mill by the river has been closed for years, and nobody in the village remembers who owned it last."
MAIL = "Write to jane.miller@example.org, and wait for an answer."
TRIPLES = [
    ("Where is the mill?", STORY, "places"),
    ("Where is the mill?", STORY, "places"),
    ("How do I write to you?", MAIL, "mail"),
    ("Who was it?", "", "people"),
    *[(f"What is {n} and {n}?", f"The sum of these two numbers is {2 * n}.", "sums") for n in range(40, 60)],
]
ROWS = [{"prompt": prompt, "completion": answer, "topic": topic} for prompt, answer, topic in TRIPLES]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "held-out.jsonl").write_text(json.dumps({"text": "He said: " + STORY + " Then he left."}) + "\n")
    (folder / "SOURCE.md").write_text("# Where from\n\nWritten for a test, | with a bar.\n")
    found = card([str(path)], against=[str(folder / "held-out.jsonl")], licence="cc0-1.0")
    return found, folder


def test_what_was_planted_is_found(made):
    found, _ = made
    sections = {section.title: section for section in found.sections}
    assert found.tally.rows == 24
    assert found.tally.shapes == {"prompt + completion": 24}
    assert sum(found.duplicates.values()) == 1
    assert dict(sections["Personal data"].counts)["email"] == 1
    assert sections["Inconsistencies"].counts == [("empty", 1)]
    assert found.leaks == (2, found.leaks[1])
    assert found.balance == [("topic", {"places": 2, "mail": 1, "people": 1, "sums": 20})]
    assert found.tally.quantiles(found.tally.answer)["most"] == len(STORY.split())
    assert found.tally.quantiles(found.tally.answer)["least"] == 0


def test_the_pages_say_it_and_are_safe(made):
    found, folder = made
    html, markdown = (path.read_text() for path in write(found, str(folder / "rows.card")))
    for page in (html, markdown):
        assert "24 rows in 1 file" in page
        assert "Written for a test" in page
        assert "jane.miller" not in page.split("Examples")[0]
        assert "cc0-1.0" in page
    assert "<script" not in html
    assert markdown.startswith("---\npretty_name: rows.jsonl\nsize_categories:\n- n<1K\nlicense: cc0-1.0\n")
    assert "email 1 times" in markdown


def test_columns_are_told_by_their_values():
    names, texts = Column(), Column()
    for number in range(40):
        names.add(["yes", "no", True, 3][number % 4])
        texts.add("x" * 100)
    assert names.balance(40) == {"yes": 10, "no": 10, "True": 10, "3": 10}
    assert names.types == {"text": 20, "true or false": 10, "number": 10}
    assert texts.balance(40) is None
    assert names.balance(100) is None  # most rows have no such column


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        ({"text": "a"}, "text"), ({"question": "a"}, "unmapped"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "prompt + chosen + rejected"),
        ({"messages": [{"role": "user", "content": "a"}]}, "messages"),
    ],
)  # fmt: skip
def test_shapes(row, shape):
    assert shape_of(row) == shape


def test_bad_settings_and_the_command(made):
    _, folder = made
    with pytest.raises(RecipeError, match=r"unknown key `colums`. Did you mean 'columns'"):
        card([str(folder / "rows.jsonl")], colums=["x"])
    command = [sys.executable, "-m", "whet", "data", "card", "rows.jsonl", "--quiet", "--tokenizer", "whet-tiny"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "tokens a row" in (folder / "rows.card.md").read_text()
