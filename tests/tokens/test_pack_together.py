"""Rows that must come into one pack: the two answers of a pair, whatever else is packed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from whet.models.language_model import LanguageModel, by_row
from whet.rows import Row
from whet.tokens.pack import MIN_SHARED, Pack, pack_rows

STEMS = [[number] * (MIN_SHARED + 3 * number) for number in range(3, 6)] + [[7], [8, 7]]
WAYS = [{"share": True}, {"share": False}, {"padded": True}]


@st.composite
def some_groups(draw: st.DrawFn) -> tuple[list[Row], list[int]]:
    """Rows of up to 6 groups, mixed; the rows of a group mostly begin alike, and so do some groups."""
    rows, together = [], []
    for group in range(draw(st.integers(1, 6))):
        stem = draw(st.lists(st.sampled_from(STEMS), min_size=1, max_size=3))
        for _ in range(draw(st.integers(1, 4))):
            tail = draw(st.lists(st.sampled_from(STEMS), min_size=1, max_size=3))
            ids = np.array([token for piece in stem + tail for token in piece], np.int32)
            rows.append(Row(ids, np.arange(len(ids)) >= draw(st.integers(0, len(ids)))))
            together.append(group)
    order = draw(st.permutations(range(len(rows))))
    return [rows[place] for place in order], [together[place] for place in order]


def told(packs: list[Pack]) -> list[tuple[int, int]]:
    """Each target with its row."""
    pairs = [zip(pack.target_row_N.tolist(), pack.target_ids_N.tolist(), strict=True) for pack in packs]
    return sorted((pack.rows[row], target) for pack, pair in zip(packs, pairs, strict=True) for row, target in pair)


def size_of(pack: Pack, padded: bool, rows: list[Row]) -> int:
    lengths = [int(np.flatnonzero(rows[index].targets)[-1]) for index in pack.rows]
    return len(lengths) * max(lengths) if padded else pack.computed_tokens


@settings(max_examples=150, deadline=None)
@given(some_groups(), st.integers(1, 300), st.sampled_from(WAYS))
def test_groups_are_never_split_and_nothing_is_lost(groups: tuple[list[Row], list[int]], limit: int, way: dict) -> None:
    rows, together = groups
    packs = pack_rows(rows, limit, together=together, **way)
    homes = [{together[index] for index in pack.rows} for pack in packs]
    assert max(Counter(group for home in homes for group in home).values(), default=1) == 1
    assert told(packs) == told(pack_rows(rows, limit, **way))
    for pack, home in zip(packs, homes, strict=True):
        assert size_of(pack, bool(way.get("padded")), rows) <= limit or len(home) == 1


@settings(max_examples=60, deadline=None)
@given(some_groups(), st.sampled_from(WAYS))
def test_a_group_of_each_row_alone_is_no_group(groups: tuple[list[Row], list[int]], way: dict) -> None:
    rows, _ = groups
    alone, plain = (pack_rows(rows, 100, together=each, **way) for each in (list(range(len(rows))), None))
    assert [pack.rows for pack in alone] == [pack.rows for pack in plain]
    assert all(torch.equal(a.ids_T, b.ids_T) for a, b in zip(alone, plain, strict=True))


def test_answers_to_one_prompt_store_it_once_whichever_pair_they_are_of() -> None:
    prompt = [3] * 30
    ends = [[4] * 5, [5] * 6, [6] * 7, [7] * 8]
    rows = [Row(np.array([*prompt, *end, 0], np.int32), np.arange(31 + len(end)) >= 30) for end in ends]
    (pack,) = pack_rows(rows, 1000, together=[0, 1, 0, 1])
    assert pack.computed_tokens == 30 + 5 + 6 + 7 + 8
    assert [size.computed_tokens for size in pack_rows(rows, 50, together=[0, 1, 0, 1])] == [30 + 5 + 7, 30 + 6 + 8]


@pytest.mark.parametrize("together", [[0, 1, 1, 1], [0, 0, 1, 1]])
def test_the_limit_counts_what_a_group_stores_twice(together: list[int]) -> None:
    """The last row leaves the one before after a few tokens of a branch, which are stored again: 10 + 35 + 6 + 7."""
    stem, branch = [1] * MIN_SHARED, [9] * 5
    bodies = [[0] * 10, [*stem, *[2] * 19], [*stem, *branch, 7], [*stem, *branch, 8, 7]]
    rows = [Row(np.array([*ids, 0], np.int32), np.arange(len(ids) + 1) == len(ids)) for ids in bodies]
    assert [pack.computed_tokens for pack in pack_rows(rows, 58, together=together)] == [58]
    assert len(pack_rows(rows, 57, together=together)) == 2


@pytest.mark.parametrize("limit", [30, 90, 1000])
def test_log_probabilities_do_not_depend_on_what_is_together(make_model, make_rows, limit: int) -> None:
    rows = make_rows()
    language_model = LanguageModel(make_model("llama").eval())

    def logps(**how) -> list[torch.Tensor]:
        found = [torch.empty(0)] * len(rows)
        for pack in pack_rows(rows, limit, **how):
            with torch.no_grad(), language_model.running():
                for index, numbers in zip(pack.rows, by_row(language_model(pack), [pack]), strict=True):
                    found[index] = numbers
        return found

    alone = logps(share=False)
    for together in ([0, 0, 1, 1, 2, 2, 3], [0, 1, 2, 3, 0, 1, 2], [0] * 7):
        for found, expected in zip(logps(together=together), alone, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
