"""The step `split`: who is on which side, and that nothing is on both."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whet.data.curation.pipeline import curate
from whet.errors import RecipeError, RowError

Row = dict[str, Any]


def sides(rows: list[Row], seed: int = 0, **options: Any) -> list[str]:
    from whet.data.curation.settings import check_curation

    done = curate(rows, check_curation({"seed": seed, "steps": [{"split": options}]}, "test"))
    assert [{k: v for k, v in row.items() if k != "split"} for row in done.rows or []] == rows
    return [row["split"] for row in done.rows or []]


def apart(count: int, seed: int = 0) -> list[Row]:
    """Rows that have nothing in common."""
    rng = np.random.default_rng(seed)
    return [{"text": " ".join(f"w{n}" for n in rng.integers(0, 10**6, 12))} for _ in range(count)]


def test_shares_are_those_asked_for_and_follow_from_the_seed() -> None:
    rows = apart(200)
    first = sides(rows, validation=0.1, test=0.2)
    assert Counter(first) == {"train": 140, "validation": 20, "test": 40}
    assert sides(rows, validation=0.1, test=0.2) == first
    assert sides(rows, seed=1, validation=0.1, test=0.2) != first


def test_most_rows_stay_on_their_side_when_others_are_added() -> None:
    rows = apart(300)
    before, after = sides(rows), sides([*apart(20, seed=9), *rows])[20:]
    assert sum(a != b for a, b in zip(before, after, strict=True)) <= 10


def test_near_copies_stay_together_by_whatever_chain() -> None:
    rng = np.random.default_rng(0)
    rows, family = [], []
    for number in range(40):
        words = [f"f{number}w{k}" for k in range(40)]
        for _ in range(4):  # each differs from the one before in one word: the last may be far from the first
            rows.append({"text": " ".join(words)})
            family.append(number)
            words[int(rng.integers(0, 40))] = f"new{len(rows)}"
    found = sides(rows, validation=0.2, test=0.2, threshold=0.7)
    assert all(len({s for s, f in zip(found, family, strict=True) if f == number}) == 1 for number in range(40))
    assert Counter(found) == {"train": 96, "validation": 32, "test": 32}


def test_groups_and_made_rows_stay_with_theirs(tmp_path: Path) -> None:
    rows = apart(60)
    for number, row in enumerate(rows):
        row |= {"patient": number // 3, "clinic": None}
    made = [{"text": f"made of {n}", "made": {"by": "noise", "from": f"row {n}"}, "patient": 100 + n} for n in (1, 10)]
    rows += [{**row, "clinic": None} for row in made]
    done = curate(rows, [{"split": {"by": ["patient", "clinic"], "validation": 0.3, "test": 0.3}}])
    found = [row["split"] for row in done.rows or []]
    assert all(len(set(found[n : n + 3])) == 1 for n in range(0, 60, 3))
    assert found[60:] == ["train", "train"]
    assert found[0:3] == ["train"] * 3  # the patient of row 1
    assert found[9:12] == ["train"] * 3
    notes = done.ledger.steps[0].notes
    assert notes["made rows, all in train"] == 2
    assert notes["made rows whose origin is not here"] == 0


def test_an_origin_may_be_an_id_and_one_that_is_gone_is_counted() -> None:
    rows: list[Row] = [{**row, "id": f"q{number}"} for number, row in enumerate(apart(10))]
    rows += [{"text": f"made of {n}", "id": f"m{n}", "made": {"by": "x", "from": n}} for n in ("q3", "q99")]
    done = curate(rows, [{"split": {"validation": 0.3, "test": 0.3}}])
    found = [row["split"] for row in done.rows or []]
    assert (found[3], found[10], found[11]) == ("train", "train", "train")
    assert done.ledger.steps[0].notes["made rows whose origin is not here"] == 1


@given(st.lists(st.integers(0, 5), min_size=8, max_size=30), st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_no_group_is_on_two_sides(groups: list[int], seed: int) -> None:
    rows = [{"text": f"row {number}", "group": group} for number, group in enumerate(groups)]
    if max(round(0.3 * len(rows)), 1) < min(Counter(groups).values()):
        with pytest.raises(RowError, match="no cluster of rows fits validation"):
            sides(rows, seed, by=["group"], validation=0.3, test=0)
        return
    found = sides(rows, seed, by=["group"], validation=0.3, test=0)
    assert all(len({s for s, g in zip(found, groups, strict=True) if g == group}) == 1 for group in set(groups))
    assert 0 < found.count("validation") <= max(round(0.3 * len(rows)), 1)


def test_a_file_a_side(tmp_path: Path) -> None:
    curate(apart(40), ["split"], str(tmp_path / "out-{split}.jsonl"))
    lines = {file.name: len(file.read_text().splitlines()) for file in tmp_path.glob("out-*.jsonl")}
    assert lines == {"out-train.jsonl": 36, "out-validation.jsonl": 2, "out-test.jsonl": 2}


def test_what_cannot_be_split_says_why() -> None:
    with pytest.raises(
        RowError, match=r"no cluster of rows fits test: 5.0% of 9 rows, and the smallest that is free has 9"
    ):
        sides([{"text": "the same"}] * 9)
    with pytest.raises(RowError, match="of 2 rows none is left to train on"):
        sides(apart(2))
    with pytest.raises(RowError, match="row 1: there is no column `doctor`"):
        sides(apart(5), by=["doctor"])
    with pytest.raises(RecipeError, match="leave nothing to train on"):
        sides(apart(5), validation=0.5, test=0.5)
