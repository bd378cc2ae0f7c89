"""Tokenizers side by side on the user's own texts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from whet.errors import RowError
from whet.tokens.pieces import Bytes

EXAMPLES = 10
_BATCH = 256
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_WORDS = 200_000  # different words that are counted; the frequent ones are soon among them


@dataclass(frozen=True, slots=True)
class Word:
    """A word, how often it occurs, and its pieces as text (bytes of half a character as <E2>)."""

    text: str
    count: int
    pieces: list[str]


@dataclass(slots=True)
class Figures:
    """What one tokenizer makes of the texts. `lengths`: tokens of each text, without special tokens around it.

    A token counts as a single byte where it stands for one byte only. `changed`: texts that do not come back to the
    letter when decoded, and the first of them with what came back. `words` are what blanks separate. `longest`: words
    (letters and digits) of most pieces; `costliest`: words that would save most tokens as one.
    """

    name: str
    vocabulary: int
    texts: int = 0
    bytes: int = 0
    words: int = 0
    lengths: list[int] = field(default_factory=list)
    unknown: int = 0
    single_bytes: int = 0
    changed: int = 0
    first_changed: tuple[str, str, str] | None = None
    used: int = 0
    longest: list[Word] = field(default_factory=list)
    costliest: list[Word] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        return sum(self.lengths)

    def tree(self) -> dict[str, Any]:
        """For JSON."""
        share = 1 / max(1, self.tokens)
        return {
            "name": self.name,
            "vocabulary": self.vocabulary,
            "texts": self.texts,
            "bytes": self.bytes,
            "words": self.words,
            "tokens": self.tokens,
            "bytes_per_token": self.bytes * share,
            "tokens_per_word": self.tokens / max(1, self.words),
            "tokens_per_text": {
                name: float(np.quantile(self.lengths, at)) for name, at in (("median", 0.5), ("p95", 0.95), ("max", 1))
            },
            "unknown": self.unknown,
            "single_byte_share": self.single_bytes * share,
            "vocabulary_used": self.used / self.vocabulary,
            "changed": self.changed,
            "first_changed": self.first_changed,
            "longest": [[word.text, word.count, word.pieces] for word in self.longest],
            "costliest": [[word.text, word.count, word.pieces] for word in self.costliest],
        }


def compare(tokenizers: Mapping[str, Any], texts: Iterable[tuple[str, str]]) -> list[Figures]:
    """Figures of each tokenizer (transformers', by a name of the caller's) on (place, text), which are read once.

    Raises RowError where there are no texts, and for half a character.
    """
    found = [Figures(name, len(tokenizer)) for name, tokenizer in tokenizers.items()]
    seen: list[Counter[int]] = [Counter() for _ in found]
    words: Counter[str] = Counter()
    texts = iter(texts)
    while batch := list(islice(texts, _BATCH)):
        for place, text in batch:
            _check(place, text)
            for word in _WORD.findall(text):
                if word in words or len(words) < _WORDS:
                    words[word] += 1
        for figures, counts, tokenizer in zip(found, seen, tokenizers.values(), strict=True):
            _add(figures, counts, tokenizer, batch)
    if not found or not found[0].texts:
        raise RowError("no texts to measure on", where="data")
    for figures, counts, tokenizer in zip(found, seen, tokenizers.values(), strict=True):
        _finish(figures, counts, tokenizer, words)
    return found


def _check(place: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RowError(
            "half of a character (a lone surrogate)", where=place, do="mend the row's encoding, or remove it"
        ) from None


def _add(figures: Figures, counts: Counter[int], tokenizer: Any, batch: list[tuple[str, str]]) -> None:
    written = [text for _, text in batch]
    encoded = tokenizer(written, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    back = tokenizer.batch_decode(encoded, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    for (place, text), ids, decoded in zip(batch, encoded, back, strict=True):
        figures.texts += 1
        figures.bytes += len(text.encode())
        figures.words += len(text.split())
        figures.lengths.append(len(ids))
        counts.update(ids)
        if decoded != text:
            figures.changed += 1
            figures.first_changed = figures.first_changed or (place, *_difference(text, decoded))


def _difference(text: str, back: str) -> tuple[str, str]:
    """Some characters of both around the first place where they part."""
    at = next((at for at, (a, b) in enumerate(zip(text, back, strict=False)) if a != b), min(len(text), len(back)))
    return text[max(0, at - 10) : at + 20], back[max(0, at - 10) : at + 20]


def _finish(figures: Figures, counts: Counter[int], tokenizer: Any, words: Counter[str]) -> None:
    as_bytes = Bytes(tokenizer)
    figures.used = len(counts)
    if tokenizer.unk_token_id is not None:
        figures.unknown = counts[tokenizer.unk_token_id]
    figures.single_bytes = sum(count for token, count in counts.items() if len(as_bytes.of(token)) == 1)
    cut = []
    names = list(words)
    for begin in range(0, len(names), 10_000):
        part = names[begin : begin + 10_000]
        # Behind a blank, as words are in a text.
        ids = tokenizer([f" {word}" for word in part], add_special_tokens=False, verbose=False)["input_ids"]
        cut += [(len(each), word) for word, each in zip(part, ids, strict=True)]

    def shown(chosen: Iterable[tuple[int, str]]) -> list[Word]:
        return [Word(word, words[word], pieces_of(tokenizer, f" {word}", as_bytes)) for _, word in chosen]

    figures.longest = shown(sorted(cut, key=lambda each: (-each[0], -words[each[1]], each[1]))[:EXAMPLES])
    spare = sorted(cut, key=lambda each: ((1 - each[0]) * words[each[1]], each[1]))
    figures.costliest = shown(each for each in spare[:EXAMPLES] if each[0] > 1)


def pieces_of(tokenizer: Any, text: str, as_bytes: Bytes | None = None) -> list[str]:
    """A text's tokens as text."""
    as_bytes = as_bytes or Bytes(tokenizer)
    return [readable(as_bytes.of(token)) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]


def readable(raw: bytes) -> str:
    """Bytes as text: whole characters as they are, every byte of half a one as <E2>."""
    text = raw.decode("utf-8", errors="surrogateescape")
    return "".join(f"<{ord(c) - 0xDC00:02X}>" if "\udc80" <= c <= "\udcff" else c for c in text)
