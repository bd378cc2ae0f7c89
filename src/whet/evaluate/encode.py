"""Contexts and what goes on from them -> rows, many at once. The ids are those of the whole text, as lm-eval has them.

Questions of one preamble are long and alike. Where a context's ids are those of its beginning and its end side by side
(most tokenizers, at a paragraph), an option is tokenised behind that end alone; elsewhere behind all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from whet.rows import Row

Pair = tuple[str, str, str]
"""Context, what goes on from it, place."""


def continuations(tokenizer: Any, pairs: Sequence[Pair]) -> list[Row]:
    """The row of each pair: the ids of context and continuation together, those past the context's own ids as targets.

    Blanks at a context's end go to the continuation. An empty context is the tokenizer's begin token (or end token).
    """
    split = [_blanks_moved(context, option) for context, option, _ in pairs]
    contexts = list(dict.fromkeys(context for context, _ in split))
    whole = dict(zip(contexts, _ids(tokenizer, contexts), strict=True))
    ends = _ends(tokenizer, whole)
    texts = [ends[context][1] + option for context, option in split]
    bare = iter(_ids(tokenizer, [t for t, (c, _) in zip(texts, split, strict=True) if ends[c][0] is not None], False))
    full = iter(_ids(tokenizer, [t for t, (c, _) in zip(texts, split, strict=True) if ends[c][0] is None]))
    rows = []
    for (context, _), (_, _, place) in zip(split, pairs, strict=True):
        beginning = ends[context][0]
        ids = next(full) if beginning is None else [*beginning, *next(bare)]
        start = len(whole[context])
        if not context:
            ids, start = _begun(tokenizer, ids), 1
        rows.append(Row(np.array(ids, dtype=np.int32), np.arange(len(ids)) >= start, place=place))
    return rows


def _blanks_moved(context: str, option: str) -> tuple[str, str]:
    kept = context.rstrip()
    return kept, context[len(kept) :] + option


def _ends(tokenizer: Any, whole: dict[str, list[int]]) -> dict[str, tuple[list[int] | None, str]]:
    """Of each context the ids of its beginning, and its end as text; None and all of it where it cannot be parted."""
    parted = {context: context.rpartition("\n\n") for context in whole}
    heads = list(dict.fromkeys(head + gap for head, gap, _ in parted.values() if gap))
    head_ids = dict(zip(heads, _ids(tokenizer, heads), strict=True))
    tails = [tail for _, gap, tail in parted.values() if gap]
    tail_ids = iter(_ids(tokenizer, tails, False))
    ends: dict[str, tuple[list[int] | None, str]] = {}
    for context, (head, gap, tail) in parted.items():
        ends[context] = None, context
        if gap and [*head_ids[head + gap], *next(tail_ids)] == whole[context] and tail:
            ends[context] = head_ids[head + gap], tail
    return ends


def _ids(tokenizer: Any, texts: list[str], special: bool = True) -> list[list[int]]:
    if not texts:
        return []
    return list(tokenizer(texts, add_special_tokens=special, verbose=False)["input_ids"])


def _begun(tokenizer: Any, ids: list[int]) -> list[int]:
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return ids if ids and ids[0] == begin else [begin, *ids]
