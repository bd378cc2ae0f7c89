"""Keys and values while answers are written, and the attention that reads them. What for: `whet.models.decode`.

One function is registered with transformers' `AttentionInterface` under the name `whet_decode`. It hands each layer's
queries, keys and values to the piece of work that comes as a keyword of the model's forward: a `Prefill` or a `Step`.
Layers are told apart by the order in which they ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from whet.models.attention import no_mask

NAME = "whet_decode"
GROW = 64
"""Tokens that a slot has room for beyond what is needed now."""


@dataclass
class Cache:
    """Of each layer: keys and values [G, length, D] of shared segments by their number, and those of rows in slots
    [slots, G, capacity, D]. What lies in a slot beyond its row's length is finite and of no meaning. Rows lie in the
    first `rows` slots, the longest with `length` tokens: what must be kept where slots are laid anew."""

    shared: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = field(default_factory=dict)
    keys: list[torch.Tensor] = field(default_factory=list)
    values: list[torch.Tensor] = field(default_factory=list)
    rows: int = 0
    length: int = 0

    def room(self, layer: int, slots: int, length: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """See to it that a layer has so many slots of such a length, `key` and `value` [1, G, T, D] being like them.
        Slots are laid for the rows there are: those of many short ones are not kept for a long one, nor its length for
        them."""
        most, longest = max(slots, self.rows), max(length, self.length)
        for held, like in ((self.keys, key), (self.values, value)):
            if len(held) <= layer:
                held.append(like.new_zeros(0, like.shape[1], 0, like.shape[3]))
            old = held[layer]
            if old.shape[0] >= slots and old.shape[2] >= length:
                continue
            capacity = longest + max(GROW, longest // 2)
            if longest <= old.shape[2] <= capacity:
                capacity = old.shape[2]
            new = like.new_zeros(most, like.shape[1], capacity, like.shape[3])
            kept = old[:most, :, :capacity]
            new[: kept.shape[0], :, : kept.shape[2]] = kept
            held[layer] = new

    def lay_down(self) -> None:
        """Slots are given back where no row is left in them."""
        self.keys, self.values, self.rows, self.length = [], [], 0, 0

    def move(self, source: int, target: int, length: int) -> None:
        """A row to another slot."""
        for held in (*self.keys, *self.values):
            held[target, :, :length] = held[source, :, :length]


@dataclass(frozen=True)
class Part:
    """Tokens start..stop of a prefill: a segment, its ancestors, and the slot of its row where no other sees it."""

    segment: int
    start: int
    stop: int
    above: tuple[int, ...]
    slot: int | None


class Prefill:
    """Segments computed side by side, ancestors first; each sees its ancestors, computed now or before, and itself."""

    def __init__(self, cache: Cache, parts: Sequence[Part], slots: int, own: int):
        self.cache, self.parts, self.slots, self.own = cache, parts, slots, own
        self.layer = 0
        self.masks: dict[tuple[int, int, int | None], torch.Tensor] = {}

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> torch.Tensor:
        """`query` [1, H, T, D], `key` and `value` [1, G, T, D] -> [1, H, T, D]."""
        layer, self.layer = self.layer, self.layer + 1
        self.cache.room(layer, self.slots, self.own, key, value)
        outputs = []
        for part in self.parts:
            k, v = key[0, :, part.start : part.stop], value[0, :, part.start : part.stop]
            if part.slot is None:
                k, v = k.clone(), v.clone()  # or all that is computed beside would stay with them
                self.cache.shared.setdefault(part.segment, []).append((k, v))
            else:
                self.cache.keys[layer][part.slot, :, : k.shape[1]] = k
                self.cache.values[layer][part.slot, :, : v.shape[1]] = v
            above = [self.cache.shared[number][layer] for number in part.above]
            if above:
                k, v = torch.cat([*(pair[0] for pair in above), k], 1), torch.cat([*(pair[1] for pair in above), v], 1)
            q = query[:, :, part.start : part.stop]
            outputs.append(self._attend(q, k[None], v[None], scale, window, softcap))
        return torch.cat(outputs, dim=2)

    def _attend(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, window: int | None, softcap: float | None
    ) -> torch.Tensor:
        own, total, groups = q.shape[2], k.shape[2], q.shape[1] // k.shape[1]
        cut = window if window is not None and window < total else None
        if softcap is None and own == total and cut is None:
            return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=groups > 1)
        if (own, total, cut) not in self.masks:
            position_q = torch.arange(total - own, total, device=q.device)[:, None]
            position_k = torch.arange(total, device=q.device)[None, :]
            seen = position_k <= position_q
            self.masks[own, total, cut] = seen if cut is None else seen & (position_k > position_q - cut)
        mask = self.masks[own, total, cut]
        if softcap is None:
            return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=groups > 1)
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        scores = softcap * torch.tanh(q @ k.mT * (scale / softcap))
        return scores.masked_fill(~mask, float("-inf")).softmax(-1, dtype=torch.float32).to(v.dtype) @ v


class Step:
    """One token for each of the rows in slots 0..R-1. `groups`: shared segments, the depth of their first token, and
    the slots that see them. `shared_R`, `own_R`: tokens that each row has in shared segments and in its slot.

    Scores lie by depth: of shared segments at 0..P, of own tokens at P..P+S.
    """

    def __init__(
        self,
        cache: Cache,
        groups: Sequence[tuple[int, int, list[int]]],
        shared_R: list[int],
        own_R: list[int],
        device: torch.device,
    ):
        self.cache, self.layer = cache, 0
        self.rows, self.depth, self.size = len(own_R), max(shared_R), max(own_R) + 1
        self.groups = [
            (number, first, None if len(members) == self.rows else torch.tensor(members, device=device))
            for number, first, members in groups
        ]
        self.slots_R = torch.arange(self.rows, device=device)
        self.shared_R1, self.own_R1 = (torch.tensor(v, device=device)[:, None] for v in (shared_R, own_R))
        self.hidden: dict[int | None, torch.Tensor] = {}

    def mask(self, window: int | None) -> torch.Tensor:
        """Bool [R, P + S]: what a row does not see. A row's own token j stands at place shared + j of its row."""
        if window not in self.hidden:
            above = torch.arange(self.depth, device=self.slots_R.device)[None]
            own = torch.arange(self.size, device=self.slots_R.device)[None]
            hidden = torch.cat([above >= self.shared_R1, own > self.own_R1], 1)
            if window is not None:
                place = torch.cat([above.expand(self.rows, -1), own + self.shared_R1], 1)
                hidden |= place <= self.shared_R1 + self.own_R1 - window
            self.hidden[window] = hidden
        return self.hidden[window]

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> torch.Tensor:
        """`query` [1, H, R, D], `key` and `value` [1, G, R, D] -> [1, H, R, D]."""
        layer, self.layer = self.layer, self.layer + 1
        self.cache.room(layer, self.rows, self.size, key, value)
        keys, values = (
            self._added(held[layer], new) for held, new in ((self.cache.keys, key), (self.cache.values, value))
        )
        heads, groups = query.shape[1], key.shape[1]
        if not self.groups and softcap is None:
            seen = None if self.rows == 1 and window is None else ~self.mask(window)[:, None, None]
            out = scaled_dot_product_attention(
                query[0].transpose(0, 1)[:, :, None], keys, values, attn_mask=seen, scale=scale,
                enable_gqa=heads > groups,
            )  # fmt: skip
            return out[:, :, 0].transpose(0, 1)[None]
        q = query[0].transpose(0, 1).reshape(self.rows, groups, heads // groups, -1)  # [R, G, H / G, D]
        scores = q.new_empty(*q.shape[:3], self.depth + self.size)
        scores[..., self.depth :] = q @ keys.mT
        for number, first, members in self.groups:
            k = self.cache.shared[number][layer][0]
            found = _over_rows(q if members is None else q[members], k.mT)
            scores[_of(members, first, first + k.shape[1])] = found
        scores *= scale
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        scores.masked_fill_(self.mask(window)[:, None, None], float("-inf"))
        p = scores.softmax(-1, dtype=torch.float32).to(values.dtype)
        out = p[..., self.depth :] @ values
        for number, first, members in self.groups:
            v = self.cache.shared[number][layer][1]
            found = _over_rows(p[_of(members, first, first + v.shape[1])], v)
            if members is None:
                out += found
            else:
                out[members] += found
        return out.reshape(self.rows, heads, -1).transpose(0, 1)[None]

    def _added(self, held: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """Slots with the new token's keys or values [1, G, R, D] in their places: [R, G, S, D]."""
        if self.rows == 1:
            held[0, :, self.size - 1] = new[0, :, 0]
        else:
            held[self.slots_R, :, self.own_R1[:, 0]] = new[0].transpose(0, 1)
        return held[: self.rows, :, : self.size]


def _of(members: torch.Tensor | None, first: int, last: int) -> Any:
    """Where scores of a shared segment lie."""
    return (slice(None) if members is None else members, slice(None), slice(None), slice(first, last))


def _over_rows(rows: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
    """[R, G, N, A] times [G, A, B] -> [R, G, N, B], as one product a group over all rows."""
    count, groups, several, width = rows.shape
    flat = rows.transpose(0, 1).reshape(groups, count * several, width) @ shared
    return flat.view(groups, count, several, -1).transpose(0, 1)


def decode_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    *,
    decoding: Prefill | Step,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """`query` [1, H, T, D], `key` and `value` [1, G, T, D]; returns ([1, T, H, D], None)."""
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    return decoding.attend(query, key, value, scale, sliding_window, softcap).transpose(1, 2), None


AttentionInterface.register(NAME, decode_attention)
AttentionMaskInterface.register(NAME, no_mask)
