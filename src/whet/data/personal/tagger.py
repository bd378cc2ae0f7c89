"""Names of people, addresses, places and organisations: a linear-chain CRF over hashed features of words.

Lafferty, McCallum, Pereira 2001. It is small (a table of bytes), needs no network and no language model, and was
trained on sentences made by `scripts/train_tagger.py` alone. A word's part of a score does not depend on its
neighbours', so it is computed once a word and looked up from then on: the cost of a text is a few gathers of numpy, and
Viterbi only where something may be a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from zlib import crc32

import numpy as np

from whet.data.personal.spans import LIKELY, Span

SHIPPED = Path(__file__).parent / "tagger.safetensors"
TAGGED = ("person", "address", "place", "organization")
LABELS = ("O", *(f"{part}-{kind}" for kind in TAGGED for part in "BI"))
BUCKETS = 1 << 17
"""Rows of the table; a feature's row is its hash modulo this."""

TOKEN = re.compile(r"(?:[^\W\d_][\u0300-\u036f]*)+|\d+|\n|[^\w\s]|_")
"""Runs of letters with their marks, runs of digits, line ends, single signs."""

WIDTH = 2
"""Words looked at on either side."""
NEAR = 8.0
"""Log-odds under O below which no label is considered: lower finds fewer long addresses, higher no more (measured)."""
EDGE = "\n\n"
"""What stands before a text and after it; no token is so spelled."""


def _row(*feature: str) -> int:
    return crc32("\0".join(feature).encode("utf-8", "surrogatepass")) % BUCKETS


def shape(word: str) -> str:
    """What a word looks like: Xx Name, X I, XX NASA, x word, xX iPhone, 9s by number of digits, a sign itself."""
    if word.isdigit():
        return "9" * min(len(word), 6)
    if not word[0].isalpha():
        return word
    if word.islower():
        return "x"
    if word.isupper():
        return "X" if len(word) == 1 else "XX"
    return "Xx" if word[1:].islower() else "xX"


@lru_cache(1 << 16)
def word_rows(word: str) -> tuple[tuple[int, ...], ...]:
    """A word's rows of the table in each place of the window: two before, one before, itself, one after, two after."""
    low, form = word.lower(), shape(word)
    own = [_row("w", low), _row("s", form), _row("n", str(min(len(word), 12)), form)]
    if word[0].isalpha():
        own += [_row("p", low[:size]) for size in (1, 2, 3, 4)] + [_row("x", low[-size:]) for size in (1, 2, 3, 4)]
        own += [_row("px", low[:2], low[-2:]), _row("fx", form, low[-3:])]
        own += [_row("g", low[at : at + 3]) for at in range(min(len(low) - 2, 10))]

    def seen_from(place: int) -> tuple[int, ...]:
        seen = str(place)
        close = (_row("cx", seen, low[-3:], form),) if abs(place) == 1 else ()
        return (_row("cw", seen, low), _row("cs", seen, form), *close)

    return seen_from(-2), seen_from(-1), tuple(own), seen_from(1), seen_from(2)


def pair_rows(words: np.ndarray, shapes: np.ndarray, cases: np.ndarray) -> np.ndarray:
    """Rows [T, 9] of features of two or three words together, for words [2 + T + 2] given as hashes.

    `words`, `shapes` hashes of the words in small letters and of their shapes, with the edges; `cases` [T] of the text
    each stands in (0 mixed, 1 all small, 2 all capitals): in a text without capitals a word must speak for itself.
    """
    count = len(words) - 2 * WIDTH
    at = {place: slice(WIDTH + place, WIDTH + place + count) for place in range(-WIDTH, WIDTH + 1)}
    pairs = [
        (words[at[-1]], shapes[at[0]], 1),
        (words[at[1]], shapes[at[0]], 2),
        (shapes[at[-1]], shapes[at[0]], 3),
        (shapes[at[0]], shapes[at[1]], 4),
        (cases, words[at[0]], 5),
        (words[at[-2]] * np.uint32(31) + words[at[-1]], shapes[at[0]], 6),
        (shapes[at[-1]] * np.uint32(31) + shapes[at[0]], shapes[at[1]], 7),
        (cases, shapes[at[0]], 8),
        (words[at[-1]], words[at[1]], 9),
    ]
    rows = [
        (a * np.uint32(2654435761) ^ b * np.uint32(40503) ^ np.uint32(salt * 0x9E3779B1 & 0xFFFFFFFF))
        for a, b, salt in pairs
    ]
    mixed = np.stack(rows, 1)
    hashed: np.ndarray = (mixed ^ (mixed >> np.uint32(15))) % np.uint32(BUCKETS)
    return hashed.astype(np.int64)


def case_of(text: str) -> int:
    """0 mixed, 1 without a capital, 2 without a small letter."""
    return 1 if text == text.lower() else 2 if text == text.upper() else 0


class Tagger:
    """Weights [BUCKETS, labels] and transitions [labels, labels]; scores are log-odds up to a constant."""

    def __init__(self, weights: np.ndarray, transitions: np.ndarray) -> None:
        self.weights, self.transitions = weights, transitions
        self.numbers: dict[str, int] = {}
        self.known = np.zeros((1024, 2 * WIDTH + 1, len(LABELS)), np.float32)
        self.hashes = np.zeros((1024, 2), np.uint32)

    def __call__(self, texts: Sequence[str], lean: float = 0.0) -> list[list[Span]]:
        """The spans of each text. `lean` is added to the score of every label but O: above nought finds more."""
        found = [list(TOKEN.finditer(text)) for text in texts]
        with np.errstate(over="ignore"):
            scores = self.emissions([[match.group() for match in matches] for matches in found], texts)
        spans, at = [], 0
        for matches, text in zip(found, texts, strict=True):
            likely = self._spans(matches, scores[at : at + len(matches)], lean)
            spans.append([span for each in likely if (span := sane(each, text))])
            at += len(matches) + WIDTH
        return spans

    def emissions(self, words: Sequence[Sequence[str]], texts: Sequence[str]) -> np.ndarray:
        """Scores [T, labels] of the texts' words laid end to end, two edges between them."""
        if len(self.numbers) > 100_000:  # memory has an end: forget, and learn again what is still met
            self.numbers.clear()
        edge = self._number(EDGE)
        numbers, cases = [edge] * WIDTH, []
        for of_text, text in zip(words, texts, strict=True):
            known = [self.numbers.get(word) for word in of_text]
            numbers += [self._number(w) if n is None else n for n, w in zip(known, of_text, strict=True)]
            numbers += [edge] * WIDTH
            cases += [case_of(text)] * (len(of_text) + WIDTH)
        ids, count = np.array(numbers), len(numbers) - 2 * WIDTH
        scores: np.ndarray = self.known[ids[WIDTH : WIDTH + count], WIDTH].copy()
        for place in (-2, -1, 1, 2):
            scores += self.known[ids[WIDTH + place : WIDTH + place + count], WIDTH + place]
        hashes = self.hashes[ids]
        rows = pair_rows(hashes[:, 0], hashes[:, 1], np.array(cases[:count], np.uint32))
        for column in range(rows.shape[1]):
            scores += self.weights[rows[:, column]]
        return scores

    def _number(self, word: str) -> int:
        number = self.numbers.get(word)
        if number is None:
            number = self.numbers[word] = len(self.numbers)
            if number == len(self.known):
                self.known = np.concatenate([self.known, np.zeros_like(self.known)])
                self.hashes = np.concatenate([self.hashes, np.zeros_like(self.hashes)])
            for place, rows in enumerate(word_rows(word)):
                self.known[number, place] = self.weights[list(rows)].sum(0, dtype=np.float32)
            self.hashes[number] = word_hashes(word)
        return number

    def _spans(self, matches: list[re.Match[str]], scores: np.ndarray, lean: float) -> Iterator[Span]:
        """Viterbi over the stretches in which some label comes near O; all else is O whatever its neighbours are."""
        maybe = np.flatnonzero(scores[:, 1:].max(1, initial=-np.inf) + lean > scores[:, 0] - NEAR)
        alone = scores + self.transitions[0] + self.transitions[:, 0]  # most stretches are of one word: all at once
        alone[:, 1:] += lean
        single = alone.argmax(1).tolist()
        start = end = -1
        for index in [*maybe.tolist(), None]:
            if index is not None and start >= 0 and index <= end + 1:
                end = index
                continue
            if start == end >= 0:
                if single[start]:
                    yield from _grouped(matches, start, single[start : start + 1])
            elif start >= 0:
                yield from _grouped(matches, start, viterbi(scores[start : end + 1], self.transitions, lean))
            if index is not None:
                start = end = index


def viterbi(scores: np.ndarray, transitions: np.ndarray, lean: float = 0.0) -> list[int]:
    """The best labels [T] for emissions [T, labels], with O before and behind."""
    scores = scores.astype(np.float32, copy=True)
    scores[:, 1:] += lean
    best, back, labels = scores[0] + transitions[0], [], np.arange(scores.shape[1])
    for step in scores[1:]:
        through = best[:, None] + transitions
        pointers = through.argmax(0)
        back.append(pointers)
        best = through[pointers, labels] + step
    label = int((best + transitions[:, 0]).argmax())
    path = [label]
    for pointers in reversed(back):
        label = int(pointers[label])
        path.append(label)
    return path[::-1]


def _grouped(matches: list[re.Match[str]], first: int, labels: list[int]) -> Iterator[Span]:
    """B, I, I -> a span; an I of another kind begins one of its own."""
    start, kind, end = -1, "", -1
    for index, label in enumerate([*labels, 0], first):
        of = LABELS[label]
        if start >= 0 and (of == "O" or of[0] == "B" or of[2:] != kind):
            yield Span(start, end, kind, LIKELY)
            start = -1
        if of != "O":
            if start < 0:
                start, kind = matches[index].start(), of[2:]
            end = matches[index].end()


_NO_NAME = {
    "i", "you", "he", "she", "it", "we", "they", "me", "him", "her", "us", "them", "my", "your", "his", "its", "our",
    "their", "this", "that", "these", "those", "who", "what", "when", "where", "why", "how", "yes", "no", "not",
    "and", "or", "but", "if", "so", "the", "a", "an", "there", "here", "hello", "hi", "hey", "dear", "thanks",
    "please", "sorry",
}  # fmt: skip


def sane(span: Span, text: str) -> Span | None:
    """The span, or None where what is known of names and addresses speaks against it.

    Where the text has capitals (scripts without them apart), a name's last word has one, and an address has a word
    with one. A name is no pronoun, and no single word in small letters alone (a tool's, a format's). An address has a
    number, of a house or a town; one without is a place.
    """
    value = text[span.start : span.end]
    if span.kind == "address" and not any(map(str.isdigit, value)):
        return span._replace(kind="place")
    if span.kind == "address" and value == value.lower() != value.upper() and text != text.lower():
        return None
    if span.kind == "person":
        if value.casefold() in _NO_NAME or not any(map(str.isalpha, value)):
            return None
        last = [match for match in TOKEN.finditer(value) if match.group()[0].isupper()]
        if last:
            end = last[-1].end()
            return span._replace(end=span.start + end + (value[end : end + 1] == "." and end - last[-1].start() < 3))
        if value != value.upper() and (text != text.lower() or value == text.strip()):
            return None
    return span


def word_hashes(word: str) -> tuple[int, int]:
    """Of a word in small letters, and of its shape: what `pair_rows` puts together."""
    return crc32(word.lower().encode("utf-8", "surrogatepass")), crc32(shape(word).encode("utf-8", "surrogatepass"))


@cache
def shipped() -> Tagger:
    """The tagger in the package."""
    from safetensors.numpy import load_file

    tensors = load_file(SHIPPED)
    weights = tensors["weights"].astype(np.float32) * tensors["scale"]
    return Tagger(weights, tensors["transitions"])
