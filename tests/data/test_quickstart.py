"""The packaged rows: made by the script, byte for byte, and sound."""

from __future__ import annotations

import calendar
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from whet.recipe import load_recipe

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "src" / "whet" / "data" / "quickstart" / "rows.jsonl"
ROWS = [json.loads(line)["messages"] for line in SHIPPED.read_text(encoding="utf-8").splitlines()]


def test_script_reproduces_the_shipped_file(tmp_path: Path) -> None:
    again = tmp_path / "rows.jsonl"
    subprocess.run([sys.executable, ROOT / "scripts" / "make_quickstart_rows.py", again], check=True)
    assert again.read_bytes() == SHIPPED.read_bytes()


def test_rows_are_many_small_and_all_different() -> None:
    assert len(ROWS) == 600
    assert SHIPPED.stat().st_size < 700_000
    assert len({messages[1]["content"] for messages in ROWS}) == 600
    assert len({messages[2]["content"] for messages in ROWS}) == 600


def test_rows_share_one_system_prompt_and_one_form() -> None:
    assert {tuple(message["role"] for message in messages) for messages in ROWS} == {("system", "user", "assistant")}
    assert len({messages[0]["content"] for messages in ROWS}) == 1
    form = r"Subject: [^\n]+\n\nDear (\w+),\n\n[^\n]+[.?]\n\nKind regards,\nThe Customer Desk\nLarkstone & Reed"
    for _, note, answer in ROWS:
        matched = re.fullmatch(form, answer["content"])
        assert matched
        assert matched[1] in note["content"]
        assert "{" not in note["content"] + answer["content"]


@pytest.mark.parametrize("fact", [r"\b\d{5}\b", r"£\d+\.\d\d", r"\b\d+:\d\d\b", r"\b[A-Z]\d{3}\b", r"\b20\d\d\b"])
def test_answers_use_the_numbers_of_their_note(fact: str) -> None:
    """Order, price, time, model and year: all that a note holds are in its answer, and none that it does not."""
    held = 0
    for _, note, answer in ROWS:
        known = set(re.findall(fact, note["content"]))
        assert set(re.findall(fact, answer["content"])) == known
        held += bool(known)
    assert held >= 24


def test_dates_are_written_out() -> None:
    """Each date of a note, however scribbled, is in its answer with full weekday and month."""
    scribbled = re.compile(r"\b(mon|tue|wed|thu|fri)[a-z]* (\d+) ([a-z]{3})", re.IGNORECASE)
    for _, note, answer in ROWS:
        for weekday, day, month in scribbled.findall(note["content"]):
            weekday = next(name for name in calendar.day_name if name.startswith(weekday.title()))
            month = next(name for name in calendar.month_name[1:] if name.startswith(month.title()))
            assert f"{weekday} {day} {month}" in answer["content"], note


def test_the_model_can_tell_what_to_say() -> None:
    """Every slot that an answer's sentence may use is in every note of its intent, whichever are drawn."""
    phrases = yaml.safe_load((ROOT / "scripts" / "quickstart_phrases.yaml").read_text(encoding="utf-8"))
    same = {"date": "day", "date2": "day2", "a_product": "product", "a_other": "other", "a_furniture": "furniture"}

    def slots(text: str) -> set[str]:
        return {same.get(slot, slot) for slot in re.findall(r"\{(\w+)\}", text)}

    for name, intent in phrases["intents"].items():
        answers = [*intent["subjects"], *intent["first"], *intent["second"], *intent["third"]]
        used = set.union(*map(slots, answers)) | {"name"}
        assert [slots(note) for note in intent["notes"]] == [used] * len(intent["notes"]), name


def test_recipe_is_valid() -> None:
    recipe = load_recipe(ROOT / "recipes" / "quickstart" / "recipe.yaml")
    assert (recipe.model.name, recipe.data[0].path, recipe.method.kind) == ("whet-tiny", "quickstart", "lora")
