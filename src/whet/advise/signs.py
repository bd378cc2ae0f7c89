"""Signs of how far a user's rows lie from what the model knows, measured before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from whet.rows import Row
from whet.tokens.pack import pack_rows
from whet.train.engine import Engine
from whet.train.run import target_bytes

SAMPLE = 200
"""Rows that are looked at; of all, where there are no more."""
FEW, MANY = 200, 5000
HARD, EASY = 1.2, 0.6
"""Bits a byte. Language models of a few billion parameters read ordinary English at 0.6 to 0.8 (Gao et al. 2020, arXiv
2101.00027, table 2, has 0.6 to 1.2 for GPT-2 and GPT-3 over the Pile's parts)."""
GRAM = 5


@dataclass(frozen=True, slots=True)
class Sign:
    """One measurement: its name, the number (or numbers), and what it suggests."""

    name: str
    value: float
    suggests: str


def measure(rows: Sequence[Row], engine: Engine, tokenizer: Any) -> list[Sign]:
    """The signs of training rows. `engine` holds the model as it is before training."""
    some = sample(rows)
    total = sum(float(logps.sum()) for logps in engine.scores(some))
    size = sum(target_bytes(some, tokenizer))
    texts = tokenizer.batch_decode([row.ids.tolist() for row in some], skip_special_tokens=True)
    return [
        *([_bits(-total / math.log(2) / size)] if size else []),
        *of_text(some, texts),
        *of_lengths([len(row) for row in rows]),
        *of_likeness(rows),
    ]


def sample(rows: Sequence[Row]) -> list[Row]:
    """At most SAMPLE rows, always the same."""
    chosen = np.random.default_rng(0).permutation(len(rows))[:SAMPLE]
    return [rows[int(i)] for i in sorted(chosen)]


def of_text(rows: Sequence[Row], texts: Sequence[str]) -> list[Sign]:
    """How finely the tokenizer cuts these rows: tokens a word (split at blanks) and bytes a token."""
    tokens = sum(len(row) for row in rows)
    words = sum(len(text.split()) for text in texts)
    size = sum(len(text.encode()) for text in texts)
    per_word = tokens / max(1, words)
    said = (
        "the tokenizer cuts these words into many pieces: rows are longer and terms harder to learn; "
        "`model.new_tokens` for the most frequent ones, or a model made for this language or field"
        if per_word > 2.5
        else "the tokenizer knows these words"
    )
    return [Sign("tokens a word", per_word, said), Sign("bytes a token", size / max(1, tokens), "")]


def of_lengths(lengths: Sequence[int]) -> list[Sign]:
    """How many rows, and their tokens: median, 90 % and longest."""
    count = len(lengths)
    if count < FEW:
        said = "few rows: a small rank, few epochs, and a look at few-shot prompting first"
    elif count < MANY:
        said = "enough for LoRA and its like; full fine-tuning has little to gain from so few"
    else:
        said = "many rows: a higher rank or full fine-tuning may pay; a pilot tells"
    quantiles = np.quantile(lengths, [0.5, 0.9, 1.0], method="inverted_cdf") if count else [0, 0, 0]
    names = ("median length", "90 % length", "longest")
    return [Sign("rows", count, said), *(Sign(n, float(q), "") for n, q in zip(names, quantiles, strict=True))]


def of_likeness(rows: Sequence[Row]) -> list[Sign]:
    """How alike rows are: the share that repeats another exactly, the share of tokens that a trie of all of them need
    not compute, and how many of the runs of five tokens are different ones (1: nothing repeats)."""
    keys = [(row.ids.tobytes(), row.targets.tobytes()) for row in rows]
    repeated = 1 - len(set(keys)) / max(1, len(keys))
    flat = sum(pack.computed_tokens for pack in pack_rows(rows, 2**40, share=False))
    shared = 1 - sum(pack.computed_tokens for pack in pack_rows(rows, 2**40)) / max(1, flat)
    grams = [tuple(row.ids[i : i + GRAM].tolist()) for row in sample(rows) for i in range(len(row) - GRAM + 1)]
    distinct = len(set(grams)) / max(1, len(grams))
    return [
        Sign("repeated rows", repeated, "take duplicates out: they weigh double" if repeated > 0.01 else ""),
        Sign(
            "shared prefixes",
            shared,
            "rows begin alike, and the trie computes that once: longer prompts cost little" if shared > 0.2 else "",
        ),
        Sign(
            "distinct 5-grams",
            distinct,
            "rows are much alike: a small rank and few steps suffice, and held-out figures flatter"
            if distinct < 0.3
            else "rows differ",
        ),
    ]


def _bits(bits: float) -> Sign:
    if bits > HARD:
        said = "the model finds these answers hard: a real shift, so training should gain much"
    elif bits > EASY:
        said = "the model half expects these answers: LoRA usually suffices"
    else:
        said = "the model expects these answers already: try prompting before training"
    return Sign("base bits a byte", bits, said)
