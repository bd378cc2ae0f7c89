"""Answers to many prompts at once: what they share is computed once, and rows come and go.

Prompts are one trie of tokens (`whet.tokens.pack`). A segment that several rows see is computed when the first of them
is let in, and its keys and values stay until the last of them has ended. What only one row sees, the end of its prompt
and its answer, lies in that row's slot of a padded cache.

Each step gives every row in flight one token. Rows lie side by side as one sequence [1, R], so all products run over
all rows; attention scores a row's own tokens slot by slot, and a shared segment's as one product over all rows that
see it: its keys are read once, not once a row. One softmax goes over both, so nothing is approximated. A row that ends
leaves its slot to the last one in flight, and once enough slots are free the next prompts are let in. Prompts may be
added, and rows dropped, between any two steps; beginnings may be kept for prompts to come (`whet.models.prefixes`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import torch

from whet.models.attention import attention_of
from whet.models.cache import NAME, Cache, Part, Prefill, Step
from whet.models.head import head_logits
from whet.models.language_model import LanguageModel
from whet.models.prefixes import DEEPEST, WORTH, Prefixes
from whet.models.virtual import embeddings, is_prefix, keys_and_values, virtual_tokens
from whet.rows import Row, read_at_end
from whet.tokens.pack import pack_rows

PREFILL_TOKENS = {"cpu": 4096, "cuda": 32768}
"""Tokens of prompts that are computed at once, by device."""

CACHE_BYTES = 2 * 2**30
"""Of keys and values of rows in flight, at most: with long prompts and large models fewer are."""

AHEAD = 128
"""Tokens that rows are expected to grow by, where answers may be as long as the model takes and most are not."""

REFILL = 8
"""New prompts are let in once one slot in so many is free: a prefill of several rows costs less than several of one."""

ROOT = 0
"""The segment of virtual tokens."""

Choose = Callable[[torch.Tensor, Sequence[int]], list[int]]
"""Logits [R, V] and the rows' numbers -> a token for each: `whet.models.draw.Draw`, or another's way."""


@dataclass(eq=False)
class _Segment:
    """A piece of the trie, there as long as some row will see it or it is held for others."""

    ids: torch.Tensor
    positions: torch.Tensor
    line: tuple[int, ...]  # its ancestors, root first, and itself
    depth: int  # tokens of a row before it
    seen_by: int  # rows that have not ended
    own: bool  # one row alone ever sees it: it lies in that row's slot
    ending: bool  # a prompt ends with it

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(eq=False)
class _Row:
    """A row in flight: what it sees, how much of its own it has, and the last token, which no forward has seen yet."""

    index: int
    line: tuple[int, ...]  # the shared segments it sees, root first
    shared: int  # tokens in them
    own: int  # tokens in its slot
    added: int = 0
    token: int = -1


class Decoder:
    """Prompts under one model, which must be in evaluation mode and take tries (`probe`). Rows are numbered as their
    prompts come. `keep`: tokens of beginnings that are kept for prompts to come."""

    def __init__(self, model: Any, prompts: Sequence[list[int]], rooms: Sequence[int], draw: Choose, keep: int = 0):
        self.model = LanguageModel(model)
        self.base, self.decoder, self.head = self.model._inner
        self.draw = draw
        self.device = self.model.device
        self.virtual = virtual_tokens(model)
        self.cache = Cache()
        self.prefixes = Prefixes(keep)
        self.segments: dict[int, _Segment] = {}
        self.ends: dict[int, torch.Tensor] = {}  # segment that a prompt ends with -> hidden state [D] of its last token
        self.end_of: dict[int, int] = {}  # row -> that segment
        self.rooms: dict[int, int] = {}  # row -> tokens that its answer may have
        self.waiting: deque[int] = deque()
        self.flight: list[_Row] = []
        self.prefill_tokens = PREFILL_TOKENS.get(self.device.type, PREFILL_TOKENS["cpu"])
        self._rows, self._numbers = 0, count(ROOT + 1)  # of rows so far; of segments to come
        self.add(prompts, rooms)

    def add(self, prompts: Sequence[list[int]], rooms: Sequence[int]) -> range:
        """Prompts behind those that wait, and how many tokens each answer may have: the numbers of their rows. What
        they share with each other is computed once."""
        numbers = range(self._rows, self._rows + len(prompts))
        self._rows = numbers.stop
        self.rooms |= zip(numbers, rooms, strict=True)
        if self.virtual and ROOT not in self.segments:
            places = torch.arange(self.virtual, device=self.device)
            self.segments[ROOT] = _Segment(places, places, (ROOT,), 0, 0, False, False)
        behind: dict[int | None, dict[int, list[int]]] = {}
        for row, ids in zip(numbers, prompts, strict=True):
            parent, depth = self._beginning(np.array(ids, np.int32)) if self.prefixes.tokens else (None, 0)
            behind.setdefault(parent, {})[row] = ids[depth:]
        for parent, rows in behind.items():
            self._lay(rows, parent)
        self.prefixes.recent += [np.array(ids, np.int32) for ids in prompts] if self.prefixes.tokens else []
        return numbers

    def drop(self, rows: Collection[int]) -> None:
        """Rows whose answers nobody wants any more, in flight or waiting."""
        for row in [row for row in self.flight if row.index in rows]:
            self._leave(row)
        for index in [index for index in self.waiting if index in rows]:
            self.waiting.remove(index)
            self._forget(index)

    def tokens(self, stop: frozenset[int], batch_size: int) -> Generator[tuple[int, int, bool], None, None]:
        """(row, token, whether it is the row's last) as they are made, rows in no order, until none is left. At most
        `batch_size` rows are in flight."""
        own = max((len(segment) for segment in self.segments.values() if segment.own), default=0)
        slots = rows_at_once(self.base, own + max(self.rooms.values()), batch_size)
        with self.running():
            while self.waiting or self.flight:
                yield from self.step(stop, slots)

    def running(self) -> AbstractContextManager[None]:
        """Around steps: the attention that reads this cache."""
        return attention_of(self.base, NAME)

    def step(self, stop: frozenset[int], slots: int) -> list[tuple[int, int, bool]]:
        """(row, token, whether it is the row's last) of the rows that are let in now, the first of each, or else of all
        in flight; none where none is left. At most `slots` rows are in flight."""
        free = slots - len(self.flight)
        if self.waiting and free >= max(1, slots // REFILL):
            logits_RV, rows = self._admit(free)
        elif self.flight:
            logits_RV, rows = self._step(), self.flight
        else:
            return []
        for row, token in zip(rows, self.draw(logits_RV, [row.index for row in rows]), strict=True):
            row.token, row.added = token, row.added + 1
        ended = [row for row in rows if row.token in stop or row.added >= self.rooms[row.index]]
        told = [(row.index, row.token, row in ended) for row in rows]
        for row in ended:
            self._leave(row)
        return told

    def slots(self, at_once: int) -> int:
        """How many rows may be in flight by what the fullest slot holds or, were all that wait let in, would hold."""
        waiting = (self.segments[self.end_of[index]] for index in self.waiting)
        owned = [len(segment) for segment in waiting if segment.own]
        widest = max([*owned, *(row.own for row in self.flight)], default=0)
        return rows_at_once(self.base, widest + AHEAD, at_once)

    def _beginning(self, ids: np.ndarray) -> tuple[int | None, int]:
        """The held segment that a prompt goes on from, one made for it where a recent prompt began alike, and how many
        tokens it and its ancestors have."""
        line = self.prefixes.find(ids)
        depth, parent = sum(len(self.segments[number]) for number in line), line[-1] if line else None
        shared = self.prefixes.shared(ids)
        if shared - depth < WORTH or len(line) == DEEPEST:
            return parent, depth
        places = torch.arange(depth, shared, device=self.device) + self.virtual
        tokens = torch.from_numpy(ids[depth:shared].astype(np.int64)).to(self.device)
        number = self._add_segment(tokens, places, parent, own=False, ending=False)
        self.prefixes.hold(number, parent, ids[depth:shared])
        return number, shared

    def _add_segment(
        self, ids: torch.Tensor, positions: torch.Tensor, parent: int | None, *, own: bool, ending: bool
    ) -> int:
        """A new segment, that no row sees yet: its number."""
        number = next(self._numbers)
        root = (ROOT,) if self.virtual else ()
        line = self.segments[parent].line if parent is not None else root
        self.segments[number] = _Segment(ids, positions, (*line, number), int(positions[0]), 0, own, ending)
        return number

    def _lay(self, prompts: dict[int, list[int]], behind: int | None) -> None:
        """What prompts have behind a segment as one trie, and the order of letting their rows in."""
        numbers, depth = list(prompts), self.virtual
        if behind is not None:
            depth = self.segments[behind].depth + len(self.segments[behind])
        [pack] = pack_rows(
            [Row(*read_at_end(np.array(ids, np.int32))) for ids in prompts.values()],
            sum(map(len, prompts.values())) + 1,
        )
        ids, positions = pack.ids_T.to(self.device), (pack.positions_T + depth).to(self.device)
        starts = [segment.start for segment in pack.segments]
        ends = (np.searchsorted(starts, pack.target_at_N.numpy(), side="right") - 1).tolist()
        parents, ending, made = {segment.parent for segment in pack.segments}, set(ends), list[int]()
        for place, segment in enumerate(pack.segments):
            part = slice(segment.start, segment.stop)
            parent = made[segment.parent] if segment.parent >= 0 else behind
            leaf = place not in parents
            made.append(self._add_segment(ids[part], positions[part], parent, own=leaf, ending=place in ending))
        for row, end in zip(pack.target_row_N.tolist(), ends, strict=True):
            self.end_of[numbers[pack.rows[row]]] = made[end]
        seen_by = Counter(number for row in numbers for number in self.segments[self.end_of[row]].line)
        for number, times in seen_by.items():
            self.segments[number].seen_by += times
            self.segments[number].own &= times == 1
        # Rows that share nothing come last, by length: slots are padded to the longest in flight.
        order = [numbers[row] for row in pack.rows]
        self.waiting += sorted(order, key=lambda row: len(prompts[row]) if self._lonely(row) else 0)

    def _lonely(self, row: int) -> bool:
        end = self.segments[self.end_of[row]]
        return end.own and end.depth == self.virtual

    def _admit(self, free: int) -> tuple[torch.Tensor, list[_Row]]:
        """Let rows in, as many as there are slots and as may be computed at once: the logits after their prompts."""
        if self.virtual and ROOT not in self.cache.shared:
            self._root()
        rows: list[_Row] = []
        parts: list[Part] = []
        size, computed = 0, set(self.cache.shared)
        while self.waiting and len(rows) < free and size < self.prefill_tokens:
            index, slot = self.waiting.popleft(), len(self.flight) + len(rows)
            line = self.segments[self.end_of[index]].line
            for place, number in enumerate(line):
                if number in computed:
                    continue
                computed.add(number)
                segment = self.segments[number]
                parts.append(Part(number, size, size + len(segment), line[:place], slot if segment.own else None))
                size += len(segment)
            shared = tuple(number for number in line if not self.segments[number].own)
            own = sum(len(self.segments[number]) for number in line if self.segments[number].own)
            rows.append(_Row(index, shared, sum(len(self.segments[number]) for number in shared), own))
        self.cache.rows = len(self.flight) + len(rows)
        self.cache.length = max((row.own for row in self.flight), default=0)
        if parts:
            self._prefill(parts)
        ends = [self.end_of[row.index] for row in rows]
        hidden_RD = torch.stack([self.ends.pop(end) if self.segments[end].own else self.ends[end] for end in ends])
        self.flight += rows
        return self._logits(hidden_RD), rows

    def _prefill(self, parts: list[Part]) -> None:
        """Compute segments, ancestors first."""
        segments = [self.segments[part.segment] for part in parts]
        own = max((part.stop - part.start for part in parts if part.slot is not None), default=0)
        slots = max((part.slot + 1 for part in parts if part.slot is not None), default=0)
        work = Prefill(self.cache, parts, slots, own)
        ids, positions = (torch.cat(held) for held in zip(*((s.ids, s.positions) for s in segments), strict=True))
        hidden_TD = self._forward({"input_ids": ids[None], "position_ids": positions[None]}, work)
        for part, segment in zip(parts, segments, strict=True):
            if segment.ending:
                self.ends[part.segment] = hidden_TD[part.stop - 1].clone()

    def _root(self) -> None:
        """Virtual tokens, the ancestor of every row: a method's own keys and values, or computed from embeddings."""
        model, dtype = self.model.model, self.base.dtype
        if is_prefix(model):
            with torch.no_grad():
                held = keys_and_values(model)
            self.cache.shared[ROOT] = [(keys.to(dtype), values.to(dtype)) for keys, values in held]
            return
        with torch.no_grad():
            prompt_1PD = embeddings(model).to(dtype)
        positions = torch.arange(self.virtual, device=self.device)[None]
        work = Prefill(self.cache, [Part(ROOT, 0, self.virtual, (), None)], 0, 0)
        self._forward({"inputs_embeds": prompt_1PD, "position_ids": positions}, work)

    def _step(self) -> torch.Tensor:
        """A token more for each row in flight: the logits after it."""
        rows = self.flight
        ids = torch.tensor([[row.token for row in rows]], device=self.device)
        positions = torch.tensor([[row.shared + row.own for row in rows]], device=self.device)
        groups: dict[int, list[int]] = {}
        for slot, row in enumerate(rows):
            for number in row.line:
                groups.setdefault(number, []).append(slot)
        self.cache.rows, self.cache.length = len(rows), max(row.own for row in rows)
        work = Step(
            self.cache,
            [(number, self.segments[number].depth, members) for number, members in groups.items()],
            [row.shared for row in rows],
            [row.own for row in rows],
            self.device,
        )
        hidden_RD = self._forward({"input_ids": ids, "position_ids": positions}, work)
        for row in rows:
            row.own += 1
        return self._logits(hidden_RD)

    def _forward(self, inputs: dict[str, torch.Tensor], work: Prefill | Step) -> torch.Tensor:
        """Hidden states [T, D]."""
        with torch.no_grad():
            out = self.decoder(**inputs, decoding=work, use_cache=False)
        return out.last_hidden_state[0]  # type: ignore[no-any-return]

    def _logits(self, hidden_RD: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return head_logits(self.head, hidden_RD, self.model.scaling)

    def _leave(self, row: _Row) -> None:
        """The last row in flight takes the slot."""
        slot = self.flight.index(row)
        last = self.flight.pop()
        if last is not row:
            self.flight[slot] = last
            if last.own:  # else there may be no slots yet: where all of every prompt is shared
                self.cache.move(len(self.flight), slot, last.own)
        if not self.flight:
            self.cache.lay_down()
        self._forget(row.index)

    def _forget(self, index: int) -> None:
        """A row that has ended, and the segments that nobody will see any more."""
        del self.rooms[index]
        line = self.segments[self.end_of.pop(index)].line
        for number in line:
            self.segments[number].seen_by -= 1
        gone = [number for number in line if not self.segments[number].seen_by and number not in self.prefixes.held]
        for number in [*gone, *self.prefixes.spare(lambda number: self.segments[number].seen_by > 0)]:
            del self.segments[number]
            self.cache.shared.pop(number, None)
            self.ends.pop(number, None)


def rows_at_once(model: Any, tokens: int, batch_size: int) -> int:
    """How many rows of so many tokens may be in flight: `batch_size`, or what keys and values have bytes for."""
    return max(1, min(batch_size, CACHE_BYTES // (tokens * token_bytes(model))))


def token_bytes(model: Any) -> int:
    """Bytes of a token's keys and values."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * model.dtype.itemsize)
