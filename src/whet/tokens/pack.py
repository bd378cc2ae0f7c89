"""Rows to packs: the token trie laid flat.

A prefix that several rows share is stored once and computed once, forward and backward; the gradient is the one of the
separate rows. Nothing is padded. What no target needs is not stored either: a row ends one token before its last
target, since nothing is predicted from that one.

    rows            the cat sat .   the cat ran off .   a dog
    segments        0: the cat      1: sat     2: ran off     3: a        (depth first, parent of 1 and 2 is 0)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from whet.rows import Row

MIN_SHARED = 16
"""Tokens. A shorter prefix costs more in bookkeeping than it saves; the gradient is the same either way."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens start..stop of the pack. Each sees the earlier ones of its own segment and all of its ancestors."""

    start: int
    stop: int
    parent: int  # index of a segment, -1 at a root


@dataclass(frozen=True, slots=True)
class Pack:
    """A trie laid flat, depth first, so that ancestors come before their descendants.

    `ids_T`, `positions_T`: int64 [T], position is the place in the row. `target_at_N`: which of the T hidden states
    predicts target n; `target_ids_N` that token; `target_row_N` its row, an index into `rows`. `rows` are indices into
    the list that was packed, `weights_R` their weights.
    """

    ids_T: torch.Tensor
    positions_T: torch.Tensor
    segments: tuple[Segment, ...]
    target_at_N: torch.Tensor
    target_ids_N: torch.Tensor
    target_row_N: torch.Tensor
    rows: tuple[int, ...]
    weights_R: torch.Tensor

    @property
    def computed_tokens(self) -> int:
        return len(self.ids_T)

    def to(self, device: torch.device | str) -> Pack:
        tensors = (self.ids_T, self.positions_T, self.target_at_N, self.target_ids_N, self.target_row_N, self.weights_R)
        ids, positions, at, targets, row, weights = (t.to(device, non_blocking=True) for t in tensors)
        return Pack(ids, positions, self.segments, at, targets, row, self.rows, weights)


def pack_rows(
    rows: Sequence[Row],
    pack_tokens: int,
    share: bool = True,
    padded: bool = False,
    together: Sequence[int] | None = None,
) -> list[Pack]:
    """All rows that have a target, in packs of at most `pack_tokens` computed tokens.

    `share=False` stores every row whole. `padded=True` counts what a rectangle of the rows would hold, for models
    whose attention cannot be told about segments. Rows that have the same number in `together` come into the same
    pack; such a group, or a row by itself, may exceed `pack_tokens`.
    """
    bodies = {index: _body(row) for index, row in enumerate(rows) if row.target_count}
    trie = _Trie(share and not padded)
    packs: list[Pack] = []
    longest = 0
    for group in _ordered(bodies, together, trie.share, padded):
        longest = max(longest, *(len(bodies[index]) for index in group))
        after = (len(trie.rows) + len(group)) * longest if padded else trie.size + trie.more([bodies[i] for i in group])
        if trie.rows and after > pack_tokens:
            packs.append(_lay(rows, bodies, trie))
            trie, longest = _Trie(trie.share), max(len(bodies[index]) for index in group)
        for index in group:
            trie.add(index, bodies[index], trie.branch(bodies[index]))
    if trie.rows:
        packs.append(_lay(rows, bodies, trie))
    return packs


def _ordered(
    bodies: dict[int, np.ndarray], together: Sequence[int] | None, share: bool, padded: bool
) -> list[list[int]]:
    """Rows by group, so that those which begin alike (`share`) or are as long (`padded`) follow each other."""
    groups: dict[int, list[int]] = {}
    for index in bodies:
        groups.setdefault(index if together is None else together[index], []).append(index)
    if not share and not padded:
        return list(groups.values())
    if share:  # big-endian bytes sort like the ids
        keys: dict[int, Any] = {index: body.astype(">u4").tobytes() for index, body in bodies.items()}
    else:
        keys = {index: len(body) for index, body in bodies.items()}
    return sorted((sorted(group, key=keys.__getitem__) for group in groups.values()), key=lambda group: keys[group[0]])


def _body(row: Row) -> np.ndarray:
    """The ids that some target needs: all before the last target."""
    return row.ids[: int(np.flatnonzero(row.targets)[-1])]


def _common(a: np.ndarray, b: np.ndarray) -> int:
    """Length of the common prefix, 0 where it is too short to be worth sharing."""
    size = min(len(a), len(b))
    differs = a[:size] != b[:size]
    length = int(differs.argmax()) if differs.any() else size
    return length if length >= MIN_SHARED else 0


@dataclass(slots=True)
class _Node:
    """Tokens first..last (depths) of row `row`, shared by all rows below."""

    first: int
    last: int
    row: int
    children: list[_Node] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)  # rows whose last token is this node's last


@dataclass(slots=True)
class _Trie:
    """The rows of one pack, added in sorted order where prefixes are shared."""

    share: bool
    rows: list[int] = field(default_factory=list)
    roots: list[_Node] = field(default_factory=list)
    path: list[_Node] = field(default_factory=list)  # the nodes of the row before, root first
    before: np.ndarray | None = None
    size: int = 0  # tokens stored

    def branch(self, body: np.ndarray) -> int:
        """The depth from which a row's tokens would be stored anew: where it leaves the row before, or where that
        node begins if the piece to be cut off is too short."""
        if not self.share or self.before is None:
            return 0
        depth = _common(self.before, body)
        for node in self.path:
            if node.first < depth < node.last and depth - node.first < MIN_SHARED:
                return node.first
        return depth

    def more(self, group: Sequence[np.ndarray]) -> int:
        """Tokens that these rows would add, in this order."""
        if len(group) == 1:
            return len(group[0]) - self.branch(group[0])
        trial = _Trie(self.share, path=[replace(node, children=[], ends=[]) for node in self.path], before=self.before)
        for body in group:
            trial.add(0, body, trial.branch(body))
        return trial.size

    def add(self, index: int, body: np.ndarray, depth: int) -> None:
        """Add a row that branches off at `depth`."""
        while self.path and self.path[-1].first >= depth:
            self.path.pop()
        if self.path and depth < self.path[-1].last:
            _split(self.path[-1], depth)
        if depth < len(body):
            node = _Node(depth, len(body), index)
            (self.path[-1].children if self.path else self.roots).append(node)
            self.path.append(node)
        self.path[-1].ends.append(index)
        self.rows.append(index)
        self.before = body
        self.size += len(body) - depth


def _split(node: _Node, depth: int) -> None:
    """Cut a node in two at `depth`; its children and ends move to the lower part."""
    lower = _Node(depth, node.last, node.row, node.children, node.ends)
    node.last, node.children, node.ends = depth, [lower], []


def _lay(rows: Sequence[Row], bodies: dict[int, np.ndarray], trie: _Trie) -> Pack:
    """A trie as a pack."""
    segments: list[Segment] = []
    ids: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    places: dict[int, np.ndarray] = {}  # row -> where in the pack each of its tokens is
    size = 0
    todo: list[tuple[_Node, int, np.ndarray]] = [(root, -1, np.empty(0, np.int64)) for root in reversed(trie.roots)]
    while todo:
        node, parent, above = todo.pop()
        length = node.last - node.first
        here = np.concatenate([above, np.arange(size, size + length)])
        ids.append(bodies[node.row][node.first : node.last])
        positions.append(np.arange(node.first, node.last))
        segments.append(Segment(size, size + length, parent))
        size += length
        for row in node.ends:
            places[row] = here
        own = len(segments) - 1
        todo.extend((child, own, here) for child in reversed(node.children))
    at, targets, target_row = [], [], []
    for number, index in enumerate(trie.rows):
        learnt = np.flatnonzero(rows[index].targets)
        learnt = learnt[learnt > 0]  # nothing predicts a row's first token
        at.append(places[index][learnt - 1])
        targets.append(rows[index].ids[learnt])
        target_row.append(np.full(len(learnt), number))
    return Pack(
        ids_T=_int64(ids),
        positions_T=_int64(positions),
        segments=tuple(segments),
        target_at_N=_int64(at),
        target_ids_N=_int64(targets),
        target_row_N=_int64(target_row),
        rows=tuple(trie.rows),
        weights_R=torch.tensor([rows[index].weight for index in trie.rows], dtype=torch.float32),
    )


def _int64(parts: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.int64))
