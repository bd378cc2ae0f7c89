"""From learnt characters to learnt tokens.

A token is a target if it begins within a learnt span. The context before a span must have the very ids that it has
alone, as the prompt that serving sends; where the tokenizer lets the two flow together ("Answer: " and "yes" give
" yes"), the text is tokenised in two parts, cut there. Only where two parts would not decode to the same text does a
token that begins before the span stay whole; it then belongs to the context. In a row with several learnt turns an
earlier cut stays in the context of the later ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from whet.tokens.turns import Piece

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class Encoded(NamedTuple):
    """`ids` [L] int32, and the character at which each token begins [L]."""

    ids: np.ndarray
    starts: np.ndarray


def encode(tokenizer: PreTrainedTokenizerFast, pieces: Sequence[Piece]) -> list[tuple[np.ndarray, np.ndarray]]:
    """`ids` [L] int32 and `targets` [L] bool of each piece. The text brings its own special tokens; none are added
    but the end token where `add_stop`, which the tokenizer must then have."""
    encoded = tokenise(tokenizer, [piece.text for piece in pieces])
    rows = []
    for piece, cuts, row in zip(pieces, _cuts(tokenizer, pieces, encoded), encoded, strict=True):
        ids, starts = _in_parts(tokenizer, piece.text, cuts, row) if cuts else row
        targets = np.zeros(len(ids), dtype=bool)
        for start, end in piece.spans:
            targets |= (starts >= start) & (starts < end)
        if piece.add_stop:
            ids, targets = np.append(ids, np.int32(tokenizer.eos_token_id)), np.append(targets, True)
        rows.append((ids, targets))
    return rows


def tokenise(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[Encoded]:
    """Each text, without added special tokens."""
    if not texts:
        return []
    encoded = tokenizer(
        list(texts),
        add_special_tokens=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    rows = []
    for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
        begins, ends = np.array(offsets, dtype=np.int64).reshape(-1, 2).T
        rows.append(Encoded(np.array(ids, dtype=np.int32), token_starts(begins, ends)))
    return rows


def token_starts(begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The character at which each token begins, from the offsets that tokenizers report, [L] each.

    Tokenizers may trim blanks off offsets; a gap before a token is the token's own. The bytes of one character may
    all carry its place, or the later ones an empty place after it; they begin where the character does.
    """
    if not len(begins):
        return begins
    reached = np.concatenate([[0], np.maximum.accumulate(ends)[:-1]])
    starts: np.ndarray = np.minimum(begins, reached)
    for index in np.flatnonzero((begins == ends) & (begins <= reached)):
        if index:
            starts[index] = starts[index - 1]
    return starts


def _cuts(tokenizer: PreTrainedTokenizerFast, pieces: Sequence[Piece], encoded: list[Encoded]) -> list[list[int]]:
    """Of each piece the span starts whose context has other ids there than it has alone.

    Added tokens are split off before anything else, so it is enough to look from the last of them on: the header of a
    turn, mostly, which all rows share and which is tokenised once.
    """
    is_added = np.zeros(max([len(tokenizer), *(id + 1 for id in tokenizer.added_tokens_decoder)]), dtype=bool)
    is_added[list(tokenizer.added_tokens_decoder)] = True
    contexts = [
        [(start, *_context(piece.text, start, row, is_added)) for start, _ in piece.spans]
        for piece, row in zip(pieces, encoded, strict=True)
    ]
    texts = list({text for of_piece in contexts for _, text, _ in of_piece})
    alone = {text: row.ids for text, row in zip(texts, tokenise(tokenizer, texts), strict=True)}
    return [[start for start, text, ids in of_piece if not np.array_equal(alone[text], ids)] for of_piece in contexts]


def _context(text: str, start: int, row: Encoded, is_added: np.ndarray) -> tuple[str, np.ndarray]:
    """What comes before `start`, from the last added token on, and its ids in the row."""
    until = int(np.searchsorted(row.starts, start))
    added = np.flatnonzero(is_added[row.ids[:until]])
    since, begin = (int(added[-1]), int(row.starts[added[-1]])) if len(added) else (0, 0)
    return text[begin:start], row.ids[since:until]


def _in_parts(tokenizer: PreTrainedTokenizerFast, text: str, cuts: list[int], whole: Encoded) -> Encoded:
    """The text tokenised in parts, or whole where the parts would not make the same text.

    A tokenizer that puts a blank before any text would put one before each part. After a line break it does not: so
    parts are also tried behind one, which is then taken off.
    """
    bounds = [0, *cuts, len(text)]
    parts = [text[begin:end] for begin, end in pairwise(bounds)]
    line_break, *behind = tokenise(tokenizer, ["\n", *("\n" + part for part in parts[1:])])
    taken_off, plain = len(line_break.ids), tokenise(tokenizer, parts)
    expected = tokenizer.decode(whole.ids, clean_up_tokenization_spaces=False)
    for encoded in (plain, [plain[0], *(Encoded(*(v[taken_off:] for v in row)) for row in behind)]):
        ids = np.concatenate([row.ids for row in encoded])
        if np.array_equal(ids, whole.ids) or tokenizer.decode(ids, clean_up_tokenization_spaces=False) == expected:
            shifts = bounds if encoded is plain else [0, *(begin - 1 for begin in cuts)]
            starts = [row.starts + shift for row, shift in zip(encoded, shifts, strict=False)]
            return Encoded(ids, np.concatenate(starts))
    return whole
