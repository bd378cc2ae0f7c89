"""Packs: whatever the rows, nothing of them is lost, nothing is stored twice that need not be, and limits hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from whet.rows import Row
from whet.tokens.pack import MIN_SHARED, Pack, pack_rows

PIECES = [[number] * (MIN_SHARED + 3 * number) for number in range(3)] + [[7], [8, 7], [9] * 5]
"""Rows made of these share prefixes of every kind: long, too short to share, whole rows, none."""


@st.composite
def some_rows(draw: st.DrawFn) -> list[Row]:
    rows = []
    for _ in range(draw(st.integers(1, 9))):
        pieces = draw(st.lists(st.sampled_from(PIECES), min_size=1, max_size=5))
        ids = np.array([token for piece in pieces for token in piece], dtype=np.int32)
        targets = np.array(draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids))))
        rows.append(Row(ids, targets, weight=draw(st.sampled_from([0.5, 1.0]))))
    return rows


limits = st.integers(1, 400)


def needed(row: Row) -> int:
    """Tokens of a row that some target looks at: those before its last target."""
    return max((place for place in range(1, len(row)) if row.targets[place]), default=0)


def line_of(pack: Pack, segment: int) -> list[int]:
    """Where the tokens of a segment and its ancestors lie, in the row's order."""
    line: list[int] = []
    while segment >= 0:
        start, stop = pack.segments[segment].start, pack.segments[segment].stop
        line = [*range(start, stop), *line]
        segment = pack.segments[segment].parent
    return line


def seen_from(pack: Pack, at: int) -> list[int]:
    """The tokens that the hidden state at place `at` of the pack has seen, its own last."""
    segment = next(i for i, s in enumerate(pack.segments) if s.start <= at < s.stop)
    line = line_of(pack, segment)
    return pack.ids_T[line[: line.index(at) + 1]].tolist()


@settings(max_examples=150, deadline=None)
@given(some_rows(), limits, st.booleans())
def test_every_target_is_predicted_from_its_row_so_far(rows: list[Row], limit: int, share: bool) -> None:
    found: dict[int, list[tuple[list[int], int]]] = {index: [] for index in range(len(rows))}
    for pack in pack_rows(rows, limit, share=share):
        assert pack.weights_R.tolist() == [rows[index].weight for index in pack.rows]
        for at, target, row in zip(pack.target_at_N, pack.target_ids_N, pack.target_row_N, strict=True):
            found[pack.rows[int(row)]].append((seen_from(pack, int(at)), int(target)))
    for index, row in enumerate(rows):
        ids = row.ids.tolist()
        assert found[index] == [(ids[:place], ids[place]) for place in range(1, len(row)) if row.targets[place]]


@settings(max_examples=150, deadline=None)
@given(some_rows(), limits, st.booleans())
def test_a_pack_is_laid_flat_depth_first(rows: list[Row], limit: int, share: bool) -> None:
    for pack in pack_rows(rows, limit, share=share):
        path: list[int] = []  # from a root to the segment before
        for index, segment in enumerate(pack.segments):
            assert segment.start == (pack.segments[index - 1].stop if index else 0) < segment.stop
            while path and path[-1] != segment.parent:
                path.pop()
            assert segment.parent == (path[-1] if path else -1)
            path.append(index)
            line = line_of(pack, index)
            assert pack.positions_T[line].tolist() == list(range(len(line)))
        assert pack.segments[-1].stop == len(pack.ids_T) == pack.computed_tokens


@settings(max_examples=150, deadline=None)
@given(some_rows(), limits)
def test_packs_keep_to_their_limit_unless_one_row_is_over_it(rows: list[Row], limit: int) -> None:
    flat = sum(needed(row) for row in rows)
    for share, padded in ((True, False), (False, False), (False, True)):
        packs = pack_rows(rows, limit, share=share, padded=padded)
        assert sum(pack.computed_tokens for pack in packs) <= flat
        assert sorted(i for pack in packs for i in pack.rows) == [i for i, row in enumerate(rows) if needed(row)]
        for pack in packs:
            lengths = [needed(rows[index]) for index in pack.rows]
            size = len(lengths) * max(lengths) if padded else pack.computed_tokens
            assert size <= limit or len(pack.rows) == 1


@settings(max_examples=150, deadline=None)
@given(some_rows())
def test_one_pack_stores_as_little_as_a_trie(rows: list[Row]) -> None:
    """A trie of single tokens stores least; a branch that comes less than MIN_SHARED tokens after another is not worth
    cutting there, which stores fewer than MIN_SHARED tokens twice a row."""
    bodies = [row.ids[: needed(row)].tolist() for row in rows if needed(row)]
    least = len({tuple(body[:depth]) for body in bodies for depth in range(1, len(body) + 1)})
    stored = sum(pack.computed_tokens for pack in pack_rows(rows, 100_000))
    assert least <= stored <= least + (len(bodies) - 1) * (MIN_SHARED - 1) if bodies else stored == 0


def test_branches_that_are_far_enough_apart_are_stored_once() -> None:
    stem, left, right = [1] * 20, [2] * 30, [3] * 16
    rows = [[*stem, *left, 4, 5], [*stem, *left, 6, 5], [*stem, *right, 5], [*stem, *left, 4, 5]]
    (pack,) = pack_rows([Row(np.array(ids, np.int32), np.arange(len(ids)) == len(ids) - 1) for ids in rows], 1000)
    # the stem, the left branch, its two ends of one token (the last row is the first again), the right branch
    assert [(s.stop - s.start, s.parent) for s in pack.segments] == [(20, -1), (30, 0), (1, 1), (1, 1), (16, 0)]
    assert pack.computed_tokens == 68


def test_the_limit_counts_what_is_stored_twice() -> None:
    """A row that leaves another after a few tokens of a branch stores these again, and they count."""
    stem, branch = [1] * MIN_SHARED, [9] * 5
    bodies = [[*stem, *[2] * 19], [*stem, *branch, 7], [*stem, *branch, 8, 7]]
    rows = [Row(np.array([*ids, 0], np.int32), np.arange(len(ids) + 1) == len(ids)) for ids in bodies]
    assert pack_rows(rows, 1000)[0].computed_tokens == 48
    assert [len(pack.rows) for pack in pack_rows(rows, 47)] == [2, 1]


def test_a_short_prefix_is_not_shared() -> None:
    rows = [Row(np.array([1] * length + [tail], np.int32), np.arange(length + 1) == length)
            for length, tail in ((MIN_SHARED - 1, 2), (MIN_SHARED - 1, 3))]  # fmt: skip
    assert pack_rows(rows, 1000)[0].computed_tokens == 2 * (MIN_SHARED - 1)


def test_share_false_stores_every_row_whole() -> None:
    ids = np.arange(50, dtype=np.int32)
    rows = [Row(ids, ids >= 40)] * 3
    assert [pack.computed_tokens for pack in pack_rows(rows, 1000, share=False)] == [3 * 49]
    assert [pack.computed_tokens for pack in pack_rows(rows, 1000)] == [49]


def test_a_target_at_the_first_place_is_never_counted() -> None:
    ids = np.arange(4, dtype=np.int32)
    first, both = Row(ids, np.array([True, False, False, False])), Row(ids, np.array([True, False, True, False]))
    assert pack_rows([first], 100) == []
    (pack,) = pack_rows([first, both], 100)
    assert (pack.rows, pack.target_ids_N.tolist(), pack.ids_T.tolist()) == ((1,), [2], [0, 1])


@pytest.mark.parametrize("vocabulary", [300, 70_000, 260_000])
def test_rows_sort_by_tokens_of_any_size(vocabulary: int) -> None:
    """Sharing rests on equal prefixes lying side by side, also where a token takes more than two bytes."""
    draw = np.random.default_rng(0)
    stems = [draw.integers(0, vocabulary, 40, dtype=np.int32) for _ in range(5)]
    rows = [Row(np.append(stems[i % 5], np.int32(i)), np.arange(41) == 40) for i in range(25)]
    assert sum(pack.computed_tokens for pack in pack_rows(rows, 10_000)) == 5 * 40


def test_pack_moves_all_of_its_tensors() -> None:
    ids = np.arange(8, dtype=np.int32)
    moved = pack_rows([Row(ids, ids > 3)], 100)[0].to("meta")
    assert all(value.is_meta for name in Pack.__slots__ if isinstance(value := getattr(moved, name), torch.Tensor))
