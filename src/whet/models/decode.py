"""Answers to many prompts at once: what they share is computed once, and rows come and go.

Prompts are one trie of tokens (`whet.tokens.pack`). A segment that several rows see is computed when the first of them
is let in, and its keys and values stay until the last of them has ended. What only one row sees, the end of its prompt
and its answer, lies in that row's slot of a padded cache.

Each step gives every row in flight one token. Rows lie side by side as one sequence [1, R], so all products run over
all rows; attention scores a row's own tokens slot by slot, and a shared segment's as one product over all rows that
see it: its keys are read once, not once a row. One softmax goes over both, so nothing is approximated. A row that ends
leaves its slot to the last one in flight, and once enough slots are free the next prompts are let in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from whet.models.attention import attention_of
from whet.models.cache import NAME, Cache, Part, Prefill, Step
from whet.models.draw import Draw
from whet.models.head import head_logits
from whet.models.language_model import LanguageModel
from whet.models.virtual import embeddings, is_prefix, keys_and_values, under_root, virtual_tokens
from whet.rows import Row, read_at_end
from whet.tokens.pack import pack_rows

PREFILL_TOKENS = {"cpu": 4096, "cuda": 32768}
"""Tokens of prompts that are computed at once, by device."""

CACHE_BYTES = 2 * 2**30
"""Of keys and values of rows in flight, at most: with long prompts and large models fewer are."""

REFILL = 8
"""New prompts are let in once one slot in so many is free: a prefill of several rows costs less than several of one."""


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
    """One list of prompts under one model, which must be in evaluation mode and take tries (`probe`)."""

    def __init__(self, model: Any, prompts: Sequence[list[int]], rooms: Sequence[int], draw: Draw):
        self.model = LanguageModel(model)
        self.base, self.decoder, self.head = self.model._inner
        self.rooms, self.draw = rooms, draw
        self.device = self.model.device
        self.virtual = virtual_tokens(model)
        self._lay(prompts)
        self.cache = Cache()
        self.ends: dict[int, torch.Tensor] = {}  # segment that a prompt ends with -> hidden state [D] of its last token
        self.flight: list[_Row] = []
        self.prefill_tokens = PREFILL_TOKENS.get(self.device.type, PREFILL_TOKENS["cpu"])

    def tokens(self, stop: frozenset[int], batch_size: int) -> Generator[tuple[int, int, bool], None, None]:
        """(row, token, whether it is the row's last) as they are made, rows in no order. At most `batch_size` rows are
        in flight."""
        longest = max((self._length(number) for number in self.own), default=0) + max(self.rooms)
        slots = rows_at_once(self.base, longest, batch_size)
        with attention_of(self.base, NAME):
            while self.waiting or self.flight:
                free = slots - len(self.flight)
                if self.waiting and free >= max(1, slots // REFILL):
                    logits_RV, rows = self._admit(free)
                else:
                    logits_RV, rows = self._step(), self.flight
                for row, token in zip(rows, self.draw(logits_RV, [row.index for row in rows]), strict=True):
                    row.token, row.added = token, row.added + 1
                ended = [row for row in rows if row.token in stop or row.added >= self.rooms[row.index]]
                told = [(row.index, row.token, row in ended) for row in rows]
                for row in ended:
                    self._leave(row)
                yield from told

    def _lay(self, prompts: Sequence[list[int]]) -> None:
        """All prompts as one trie: its segments, which of them each row sees, and the order of letting rows in."""
        rows = [Row(*read_at_end(np.array(ids, np.int32))) for ids in prompts]
        [pack] = pack_rows(rows, sum(map(len, prompts)) + 1)
        self.ids, self.positions = pack.ids_T.to(self.device), (pack.positions_T + self.virtual).to(self.device)
        self.segments = under_root(pack.segments, self.virtual) if self.virtual else pack.segments
        starts = [segment.start for segment in self.segments]
        ends = np.searchsorted(starts, pack.target_at_N.numpy() + self.virtual, side="right") - 1
        self.lines: list[tuple[int, ...]] = []
        self.depths: list[int] = []  # tokens of a row before each segment
        for number, segment in enumerate(self.segments):
            above = self.lines[segment.parent] if segment.parent >= 0 else ()
            self.depths.append(sum(map(self._length, above)))
            self.lines.append((*above, number))
        self.end_of = {pack.rows[row]: int(end) for row, end in zip(pack.target_row_N.tolist(), ends, strict=True)}
        self.seen_by = Counter(number for end in self.end_of.values() for number in self.lines[end])
        parents = {segment.parent for segment in self.segments}
        self.own = {n for n in range(len(self.segments)) if self.seen_by[n] == 1 and n not in parents}
        # Rows that share nothing come last, by length: slots are padded to the longest in flight.
        lonely = {row for row, end in self.end_of.items() if end in self.own and self.depths[end] == self.virtual}
        order = sorted(pack.rows, key=lambda row: len(prompts[row]) if row in lonely else 0)
        self.waiting = order[::-1]

    def _length(self, segment: int) -> int:
        return self.segments[segment].stop - self.segments[segment].start

    def _admit(self, free: int) -> tuple[torch.Tensor, list[_Row]]:
        """Let rows in, as many as there are slots and as may be computed at once: the logits after their prompts."""
        if self.virtual and 0 not in self.cache.shared:
            self._root()
        rows: list[_Row] = []
        parts: list[Part] = []
        size, computed = 0, set(self.cache.shared)
        while self.waiting and len(rows) < free and size < self.prefill_tokens:
            index, slot = self.waiting.pop(), len(self.flight) + len(rows)
            line = self.lines[self.end_of[index]]
            for place, number in enumerate(line):
                if number in computed:
                    continue
                computed.add(number)
                length = self._length(number)
                parts.append(Part(number, size, size + length, line[:place], slot if number in self.own else None))
                size += length
            shared = tuple(number for number in line if number not in self.own)
            own = sum(self._length(number) for number in line if number in self.own)
            rows.append(_Row(index, shared, sum(map(self._length, shared)), own))
        if parts:
            self._prefill(parts)
        ends = [self.end_of[row.index] for row in rows]
        hidden_RD = torch.stack([self.ends.pop(end) if end in self.own else self.ends[end] for end in ends])
        self.flight += rows
        return self._logits(hidden_RD), rows

    def _prefill(self, parts: list[Part]) -> None:
        """Compute segments, ancestors first."""
        places = [(self.segments[part.segment].start, self.segments[part.segment].stop) for part in parts]
        at = torch.cat([torch.arange(start, stop, device=self.device) for start, stop in places]) - self.virtual
        own = max((part.stop - part.start for part in parts if part.slot is not None), default=0)
        slots = max((part.slot + 1 for part in parts if part.slot is not None), default=0)
        work = Prefill(self.cache, parts, slots, own)
        inputs = {"input_ids": self.ids[at][None], "position_ids": self.positions[at][None]}
        hidden_TD = self._forward(inputs, work)
        ending = set(self.end_of.values())
        self.ends |= {part.segment: hidden_TD[part.stop - 1].clone() for part in parts if part.segment in ending}

    def _root(self) -> None:
        """Virtual tokens, the ancestor of every row: a method's own keys and values, or computed from embeddings."""
        model, dtype = self.model.model, self.base.dtype
        if is_prefix(model):
            with torch.no_grad():
                self.cache.shared[0] = [(keys.to(dtype), values.to(dtype)) for keys, values in keys_and_values(model)]
            return
        with torch.no_grad():
            prompt_1PD = embeddings(model).to(dtype)
        positions = torch.arange(self.virtual, device=self.device)[None]
        work = Prefill(self.cache, [Part(0, 0, self.virtual, (), None)], 0, 0)
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
        work = Step(
            self.cache,
            [(number, self.depths[number], members) for number, members in groups.items()],
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
        """The last row in flight takes the slot; segments that nobody will see any more are forgotten."""
        slot = self.flight.index(row)
        last = self.flight.pop()
        if last is not row:
            self.flight[slot] = last
            if last.own:  # else there may be no slots yet: where all of every prompt is shared
                self.cache.move(len(self.flight), slot, last.own)
        for number in row.line:
            self.seen_by[number] -= 1
            if not self.seen_by[number]:
                self.cache.shared.pop(number, None)
                self.ends.pop(number, None)


def rows_at_once(model: Any, tokens: int, batch_size: int) -> int:
    """How many rows of so many tokens may be in flight: `batch_size`, or what keys and values have bytes for."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    size: int = 2 * config.num_hidden_layers * heads * width * model.dtype.itemsize
    return max(1, min(batch_size, CACHE_BYTES // (tokens * size)))
