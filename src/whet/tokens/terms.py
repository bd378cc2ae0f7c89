"""A domain's terms: the words that cost a tokenizer most on the user's texts.

A word of n pieces that occurs c times would save c (n - 1) tokens if it were one; that is its score.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from whet.errors import ModelError
from whet.tokens.pieces import Bytes

# A word behind the sign for a space, in the form that SentencePiece's pieces have. Without the sign in front a piece
# would be used inside longer words too.
_WORD = re.compile("\u2581\\w+")


@dataclass(frozen=True, slots=True)
class Term:
    """`key` is the word as the vocabulary would have it, `text` as people read it (a space before it included),
    `pieces` what it is cut into, `count` how often it is in the texts."""

    key: str
    text: str
    pieces: tuple[str, ...]
    count: int

    @property
    def saved(self) -> int:
        """Tokens that it would save on the texts as a token of its own."""
        return self.count * (len(self.pieces) - 1)


class Splitter:
    """How a fast tokenizer splits a text into words, and a word into pieces.

    Raises ModelError for a tokenizer that is none of BPE and unigram.
    """

    def __init__(self, tokenizer: Any):
        backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        kind = type(backend.model).__name__ if backend is not None else "no fast tokenizer"
        if kind not in ("BPE", "Unigram"):
            raise ModelError(
                f"a tokenizer of kind {kind} cannot be extended by words",
                where=str(getattr(tokenizer, "name_or_path", "") or "tokenizer"),
                do="BPE and unigram can; for others add the terms as 'model.new_tokens=[...]'",
            )
        self.backend: Any = backend
        self.kind = kind
        self.bytes = Bytes(tokenizer)
        self.by_bytes = self.bytes.by_bytes

    def words(self, text: str) -> list[str]:
        """The words of a text as the vocabulary has them."""
        if self.backend.normalizer is not None:
            text = self.backend.normalizer.normalize_str(text)
        parts = [text]
        if self.backend.pre_tokenizer is not None:
            parts = [part for part, _ in self.backend.pre_tokenizer.pre_tokenize_str(text)]
        return parts if self.by_bytes else [word for part in parts for word in _WORD.findall(part)]

    def pieces(self, word: str) -> tuple[str, ...]:
        """What the model cuts a word into."""
        return tuple(token.value for token in self.backend.model.tokenize(word))

    def text(self, key: str) -> str:
        """A word of the vocabulary as people read it."""
        return self.bytes.of_piece(key).decode(errors="replace")

    def counted(self, texts: Iterable[str]) -> Counter[str]:
        """How often each word is in the texts."""
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(self.words(text))
        return counts


def find_terms(
    splitter: Splitter, counts: Counter[str], least: int = 3, wanted: Callable[[str], bool] | None = None
) -> list[Term]:
    """Words of letters alone, of two pieces or more that occur at least `least`
    times, the one that would save most first. `wanted` says of a word's text, without its space, whether it counts."""
    terms = []
    for key, count in counts.items():
        text = splitter.text(key)
        bare = text.strip()
        if count < least or not (bare.isalpha() if wanted is None else wanted(bare)):
            continue
        pieces = splitter.pieces(key)
        if len(pieces) > 1:
            terms.append(Term(key, text, pieces, count))
    return sorted(terms, key=lambda term: (-term.saved, term.key))
