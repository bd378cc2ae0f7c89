"""Attention over a token trie: a token sees its own segment, causally, and all of that segment's ancestors.

One function is registered with transformers' `AttentionInterface` under the name `whet_trie`; it gets the trie as a
keyword of the model's forward. A mask function of the same name returns None, so that no T x T mask is ever made.

On CPU each segment is one call of scaled_dot_product_attention over its own keys and its gathered ancestors'. On CUDA
the whole pack is one FlexAttention call with a block mask from depth-first entry and exit times.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from whet.tokens.pack import Segment

NAME = "whet_trie"
QUERY_BLOCK = 256
"""Queries whose attention to all their keys is held at once in backward."""


@dataclass
class Trie:
    """The segments of one pack, and what attention needs of them, made once a pack and never once a layer."""

    segments: tuple[Segment, ...]
    kernel: str = "segments"  # or "flex"
    prefix: list[tuple[torch.Tensor, torch.Tensor]] | None = None
    """Of each layer: keys and values [G, P, D] of virtual tokens, which are segment 0 and have no queries."""
    calls: int = 0  # how many layers have used it: the probe counts them
    masks: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lengths = [segment.stop - segment.start for segment in self.segments]
        self.lines: list[list[int]] = []  # each segment's ancestors, root first, and itself
        for index, segment in enumerate(self.segments):
            above = self.lines[segment.parent] if segment.parent >= 0 else []
            self.lines.append([*above, index])

    def gather(self, tensor: torch.Tensor, index: int) -> torch.Tensor:
        """What a segment sees of `tensor` [G, T, D]: its ancestors' tokens and its own, [G, ancestors + own, D]."""
        parts = [tensor[:, self.segments[i].start : self.segments[i].stop] for i in self.lines[index]]
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]

    def scatter(self, total: torch.Tensor, part: torch.Tensor, index: int) -> None:
        """Add back to `total` what `gather` took from it."""
        for i, piece in zip(
            self.lines[index], part.split([self.lengths[i] for i in self.lines[index]], 1), strict=True
        ):
            total[:, self.segments[i].start : self.segments[i].stop] += piece

    def mask(self, index: int, window: int | None, like: torch.Tensor, always: bool = False) -> torch.Tensor | None:
        """Additive mask [own, ancestors + own] of a segment, or None where plain causal attention is right."""
        own = self.lengths[index]
        total = sum(self.lengths[i] for i in self.lines[index])
        cut = window if window is not None and window < total else None
        if own == total and cut is None and not always:
            return None
        key = (own, total, cut, like.dtype)
        if key not in self.masks:
            position_q = torch.arange(total - own, total, device=like.device)[:, None]
            position_k = torch.arange(total, device=like.device)[None, :]
            hidden = position_k > position_q
            if cut is not None:
                hidden |= position_k <= position_q - cut
            self.masks[key] = torch.zeros(own, total, dtype=like.dtype, device=like.device).masked_fill(
                hidden, float("-inf")
            )
        return self.masks[key]  # type: ignore[no-any-return]

    def block_mask(self, window: int | None, device: torch.device) -> BlockMask:
        """FlexAttention's mask. With a segment's entry time and the last time below it, `q` sees `k` when
        entry[k] <= entry[q] <= exit[k] and k is not later; positions give the window."""
        key = ("flex", window)
        if key not in self.masks:
            entry, leave, position = self._times(device)
            size = len(entry)

            def sees(batch: Any, head: Any, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
                seen = (k <= q) & (entry[k] <= entry[q]) & (entry[q] <= leave[k])
                return seen & (position[k] > position[q] - window) if window is not None else seen

            self.masks[key] = create_block_mask(sees, None, None, size, size, device=device)
        return self.masks[key]  # type: ignore[no-any-return]

    def _times(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Per token: its segment's entry, the last entry among its segment's descendants, its place in the row."""
        last = list(range(len(self.segments)))
        first_position = [0] * len(self.segments)
        for index, segment in enumerate(self.segments):
            if segment.parent >= 0:
                first_position[index] = first_position[segment.parent] + self.lengths[segment.parent]
        for index in range(len(self.segments) - 1, -1, -1):
            parent = self.segments[index].parent
            if parent >= 0:
                last[parent] = max(last[parent], last[index])
        lengths = torch.tensor(self.lengths)
        starts = torch.tensor([segment.start for segment in self.segments])
        spread = [torch.tensor(v).repeat_interleave(lengths) for v in (range(len(last)), last, first_position)]
        within = torch.arange(int(lengths.sum())) - starts.repeat_interleave(lengths)
        entry, leave, position = spread[0], spread[1], spread[2] + within
        return entry.to(device), leave.to(device), position.to(device)


def trie_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    trie: Trie | None = None,
    s_aux: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """`query` [1, H, T, D], `key` and `value` [1, H_kv, T, D]; returns ([1, T, H, D], None).

    Raises NotImplementedError for what it does not compute (attention sinks, two-way attention, a call without a
    trie); the probe then sends the model to the padded path.
    """
    if trie is None or s_aux is not None or not getattr(module, "is_causal", True):
        raise NotImplementedError("the trie's attention has no sinks, is causal, and needs a trie")
    trie.calls += 1
    if trie.prefix is not None:
        query, key, value = _with_prefix(query, key, value, trie.prefix[module.layer_idx])  # type: ignore[index]
    groups = query.shape[1] // key.shape[1]
    if trie.kernel == "flex" and dropout == 0:  # FlexAttention drops nothing
        out = _flex(query, key, value, trie, scaling, sliding_window, softcap, groups > 1)
    elif softcap is not None or dropout > 0 or query.shape[-1] != value.shape[-1]:
        if groups > 1:
            key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
        out = _by_segment(query, key, value, trie, scaling, sliding_window, softcap, dropout)
    else:
        scale = scaling if scaling is not None else query.shape[-1] ** -0.5
        out = _Segments.apply(query[0], key[0], value[0], trie, scale, sliding_window)[None]
    virtual = 0 if trie.prefix is None else trie.lengths[0]
    return out[:, :, virtual:].transpose(1, 2), None


def _with_prefix(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, prefix: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Virtual tokens before the pack's own. Their queries are zeros, whose output is thrown away: so places in queries
    and keys stay the same."""
    keys, values = (part[None].to(key.dtype) for part in prefix)
    nothing = query.new_zeros(*query.shape[:2], keys.shape[2], query.shape[3])
    return torch.cat([nothing, query], 2), torch.cat([keys, key], 2), torch.cat([values, value], 2)


class _Segments(torch.autograd.Function):
    """Attention by segments, `query` [H, T, D], `key` and `value` [G, T, D] with H a multiple of G.

    Forward is one fused call a segment. The fused CPU kernel's backward is slow on rows of common lengths (a quarter
    of a whole step at 80 tokens), so backward is written out as products over blocks of queries:

        P = softmax(s Q K'),  dV = P' dO,  dS = P * (dO V' - sum(dO * O)),  dQ = s dS K,  dK = s dS' Q

    Only q, k, v and the output are kept, as in FlashAttention (Dao et al. 2022, arXiv 2205.14135, section 3).
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        trie: Trie,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        out = torch.empty_like(query)
        grouped = query.shape[0] != key.shape[0]
        for index, segment in enumerate(trie.segments):
            k, v = trie.gather(key, index), trie.gather(value, index)
            mask = trie.mask(index, window, query)
            out[:, segment.start : segment.stop] = scaled_dot_product_attention(
                query[None, :, segment.start : segment.stop],
                k[None],
                v[None],
                attn_mask=mask,
                is_causal=mask is None,
                scale=scale,
                enable_gqa=grouped,
            )[0]
        ctx.save_for_backward(query, key, value, out)
        ctx.trie, ctx.scale, ctx.window = trie, scale, window
        return out

    @staticmethod
    def backward(ctx: Any, grad_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        query, key, value, out = ctx.saved_tensors
        trie: Trie = ctx.trie
        heads, groups, width = query.shape[0], key.shape[0], query.shape[-1]
        grad_query, grad_key, grad_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        for index, segment in enumerate(trie.segments):
            k, v = trie.gather(key, index), trie.gather(value, index)
            own, total = trie.lengths[index], k.shape[1]
            grad_k, grad_v = torch.zeros_like(k), torch.zeros_like(v)
            mask = trie.mask(index, ctx.window, query, always=True)
            for begin in range(0, own, QUERY_BLOCK):
                block = slice(begin, min(begin + QUERY_BLOCK, own))
                seen = total - own + block.stop  # keys after the block's last query are hidden from all of it
                here = slice(segment.start + block.start, segment.start + block.stop)
                # Heads of a group lie side by side as more queries over the same keys: no key is ever repeated.
                q, o, d_out = (t[:, here].reshape(groups, -1, width) for t in (query, out, grad_out))
                scores = (q @ k[:, :seen].mT).float().mul_(ctx.scale)
                if mask is not None:
                    scores.view(heads, -1, seen).add_(mask[block, :seen])
                probability = scores.softmax(-1)
                grad_scores = (d_out @ v[:, :seen].mT).float()
                grad_scores.sub_((d_out * o).sum(-1, keepdim=True, dtype=torch.float32)).mul_(probability).mul_(
                    ctx.scale
                )
                low = grad_scores.to(q.dtype)
                grad_v[:, :seen] += probability.to(q.dtype).mT @ d_out
                grad_k[:, :seen] += low.mT @ q
                grad_query[:, here] = (low @ k[:, :seen]).view(heads, -1, width)
            trie.scatter(grad_key, grad_k, index)
            trie.scatter(grad_value, grad_v, index)
        return grad_query, grad_key, grad_value, None, None, None


def _by_segment(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    trie: Trie,
    scaling: float | None,
    window: int | None,
    softcap: float | None,
    dropout: float,
) -> torch.Tensor:
    # split and cat, never slices: the gradient of a slice is a whole tensor of zeros, that of a split is one cat
    queries, keys, values = (tensor.split(trie.lengths, dim=2) for tensor in (query, key, value))
    outputs = []
    for index, line in enumerate(trie.lines):
        k = torch.cat([keys[i] for i in line], dim=2) if len(line) > 1 else keys[index]
        v = torch.cat([values[i] for i in line], dim=2) if len(line) > 1 else values[index]
        mask = trie.mask(index, window, query)
        if softcap is not None:
            outputs.append(_softcapped(queries[index], k, v, mask, scaling, softcap))
        else:
            outputs.append(
                scaled_dot_product_attention(
                    queries[index], k, v, attn_mask=mask, dropout_p=dropout, is_causal=mask is None, scale=scaling
                )
            )
    return torch.cat(outputs, dim=2)


def _softcapped(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None,
    softcap: float,
) -> torch.Tensor:
    """softmax(c tanh(q k / c)) v, as Gemma 2 has it (arXiv 2408.00118, section 2)."""
    scores = query @ key.transpose(2, 3) * (scaling if scaling is not None else query.shape[-1] ** -0.5)
    scores = softcap * torch.tanh(scores / softcap)
    if mask is None:
        size = scores.shape[-1]
        mask = torch.full((size, size), float("-inf"), dtype=scores.dtype, device=scores.device).triu(1)
    return torch.softmax(scores + mask, dim=-1, dtype=torch.float32).to(value.dtype) @ value


_compiled_flex = torch.compile(flex_attention, dynamic=True)


def _flex(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    trie: Trie,
    scaling: float | None,
    window: int | None,
    softcap: float | None,
    grouped: bool,
) -> torch.Tensor:
    def cap(score: torch.Tensor, batch: Any, head: Any, q: Any, k: Any) -> torch.Tensor:
        return softcap * torch.tanh(score / softcap)

    attend = _compiled_flex if query.is_cuda else flex_attention  # compiled kernels have no backward on CPU
    return attend(  # type: ignore[no-any-return]
        query,
        key,
        value,
        score_mod=cap if softcap is not None else None,
        block_mask=trie.block_mask(window, query.device),
        scale=scaling,
        enable_gqa=grouped,
    )


def kernel_for(device: torch.device) -> str:
    """FlexAttention where it is compiled with a backward, the loop over segments elsewhere."""
    return "flex" if device.type == "cuda" else "segments"


@contextmanager
def attention_of(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Run the model with another attention implementation, and put the old one back.

    Set on the configuration that the layers read, not through `set_attn_implementation`, which checks and warns anew
    at every call.
    """
    configs = {id(module.config): module.config for module in model.modules() if hasattr(module, "config")}
    before = {key: getattr(config, "_attn_implementation", None) for key, config in configs.items()}
    try:
        for config in configs.values():
            config._attn_implementation = name
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation = before[key]


def no_mask(*args: Any, **kwargs: Any) -> None:
    """For an attention that knows by itself who sees whom."""


AttentionInterface.register(NAME, trie_attention)
AttentionMaskInterface.register(NAME, no_mask)
