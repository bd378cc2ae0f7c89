"""The published rules for web text, and one for answers: text, thresholds, words -> the names of the rules it breaks.

The thresholds are the papers'; where a paper leaves a detail open, it is done as datatrove does it (the library that
made FineWeb), so that verdicts agree. The published ones were made for long English web pages.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any

from pydantic import Field

from whet.recipe.part import Part

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]

# A word may hold digits, one kind of apostrophe splits off its end; all other signs are words of one character. That is
# how the tokenizers cut with which these thresholds were used (Treebank's, spaCy's), but for their lists of exceptions.
_WORD = re.compile(
    r"""(?x) https?://\S+ | \d+(?:[.,]\d+)+ | \b(?:[A-Za-z]\.)+(?!\w) | \b(?:Mrs?|Ms|Dr|St)\.
    | \w+?(?=n['’]t\b) | n['’]t\b | ['’](?:s|re|ve|ll|d|m)\b | \w+ | \.{2,} | -+ | [^\w\s]"""
)
_SENTENCE_END = re.compile(r"""(?<!\b[A-Z])(?<!\b(?:Mr|Ms|Dr|St))(?<!\bMrs)[.!?。！？]+["'”’)\]]*(?=\s|$)""")
_PARAGRAPHS, _LINES = re.compile(r"\n{2,}"), re.compile(r"\n+")


def words_of(text: str) -> list[str]:
    """Words and signs of punctuation, in order."""
    return _WORD.findall(text)


def sentence_count(text: str) -> int:
    """Sentences, by their end marks before a blank; text after the last mark is one more."""
    count = end = 0
    for match in _SENTENCE_END.finditer(text):
        count, end = count + 1, match.end()
    return count + bool(text[end:].strip())


class Gopher(Part):
    """Quality rules of Gopher (Rae et al. 2021, arXiv:2112.11446, A.1.1)."""

    min_words: Count = 50
    max_words: Annotated[int, Field(ge=1)] = 100_000
    """Words with a letter or digit."""
    min_mean_word_length: Annotated[float, Field(ge=0)] = 3
    max_mean_word_length: Annotated[float, Field(gt=0)] = 10
    """Characters."""
    max_symbols: Share = 0.1
    """Hash signs a word, and ellipses a word."""
    max_bullet_lines: Share = 0.9
    """Share of lines that begin with a bullet."""
    max_ellipsis_lines: Share = 0.3
    """Share of lines that end with an ellipsis."""
    min_alphabetic: Share = 0.8
    """Share of words that have a letter; signs of punctuation count as words."""
    min_stop_words: Count = 2
    """How many different ones of `stop_words`, in lower case."""
    stop_words: list[str] = ["the", "be", "to", "of", "and", "that", "have", "with"]


def gopher(text: str, settings: Gopher, words: list[str]) -> list[str]:
    """Rules of Gopher that a text breaks."""
    spoken = [word for word in words if any(map(str.isalnum, word))]
    if not spoken:
        return ["too few words"]
    lines = text.splitlines()
    mean_length = sum(map(len, spoken)) / len(spoken)
    bullets = sum(line.lstrip().startswith(("•", "-")) for line in lines)
    ellipses = sum(line.rstrip().endswith(("...", "…")) for line in lines)
    alphabetic = sum(any(map(str.isalpha, word)) for word in spoken)
    return _named(
        ("too few words", len(spoken) < settings.min_words),
        ("too many words", len(spoken) > settings.max_words),
        ("short words", mean_length < settings.min_mean_word_length),
        ("long words", mean_length > settings.max_mean_word_length),
        ("hash signs", text.count("#") / len(words) > settings.max_symbols),
        ("ellipses", (text.count("...") + text.count("…")) / len(words) > settings.max_symbols),
        ("bullet lines", bullets / len(lines) > settings.max_bullet_lines),
        ("lines that end in an ellipsis", ellipses / len(lines) > settings.max_ellipsis_lines),
        ("few alphabetic words", alphabetic / len(words) < settings.min_alphabetic),
        ("few stop words", len(set(settings.stop_words).intersection(words)) < settings.min_stop_words),
    )


class GopherRepetition(Part):
    """Repetition rules of Gopher (Rae et al. 2021, arXiv:2112.11446, Table A1)."""

    max_duplicate_paragraphs: Share = 0.3
    max_duplicate_paragraph_characters: Share = 0.2
    max_duplicate_lines: Share = 0.3
    max_duplicate_line_characters: Share = 0.2
    """Shares of what was there before in the same text."""
    top_n_grams: dict[int, Share] = {2: 0.2, 3: 0.18, 4: 0.16}
    """Share of characters in the most frequent n-gram."""
    duplicate_n_grams: dict[int, Share] = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1}
    """Share of characters in n-grams that were there before."""


def gopher_repetition(text: str, settings: GopherRepetition, words: list[str]) -> list[str]:
    """Rules of Gopher on repetition that a text breaks. A text of a few words is its own most frequent n-gram."""
    if not text.strip():
        return ["empty"]
    paragraphs, lines = _PARAGRAPHS.split(text.strip()), _LINES.split(text)
    repeated_paragraphs, repeated_lines = _repeated(paragraphs), _repeated(lines)
    size = len(text)
    broken = _named(
        ("duplicate paragraphs", repeated_paragraphs[0] / len(paragraphs) > settings.max_duplicate_paragraphs),
        (
            "characters in duplicate paragraphs",
            repeated_paragraphs[1] / size > settings.max_duplicate_paragraph_characters,
        ),
        ("duplicate lines", repeated_lines[0] / len(lines) > settings.max_duplicate_lines),
        ("characters in duplicate lines", repeated_lines[1] / size > settings.max_duplicate_line_characters),
    )
    broken += [f"top {n}-gram" for n, most in settings.top_n_grams.items() if top_n_gram(words, n) > most * size]
    for n, characters in duplicate_n_grams(words, sorted(settings.duplicate_n_grams)).items():
        if characters > settings.duplicate_n_grams[n] * size:
            broken.append(f"duplicate {n}-grams")
    return broken


def top_n_gram(words: list[str], n: int) -> int:
    """Characters in all places of the most frequent n-gram, blanks between words counted; the first one of a tie."""
    counts = Counter(zip(*(words[start:] for start in range(n)), strict=False))
    if not counts:
        return 0
    n_gram = max(counts, key=counts.__getitem__)
    return (sum(map(len, n_gram)) + n - 1) * counts[n_gram]


def duplicate_n_grams(words: list[str], sizes: list[int]) -> dict[int, int]:
    """Characters in n-grams that were there before, by n; places are counted once. `sizes` rise."""
    found = dict.fromkeys(sizes, 0)
    for n in sizes:
        seen: set[tuple[str, ...]] = set()
        n_grams = list(zip(*(words[start:] for start in range(n)), strict=False))
        if len(set(n_grams)) == len(n_grams):
            break  # what has no duplicate of n words has none of more
        at = 0
        while at < len(n_grams):
            if n_grams[at] in seen:
                found[n] += sum(map(len, n_grams[at]))
                at += n
            else:
                seen.add(n_grams[at])
                at += 1
    return found


def _repeated(items: list[str]) -> tuple[int, int]:
    """How many items were there before, and their characters."""
    if len(set(items)) == len(items):
        return 0, 0
    seen: set[str] = set()
    again: list[str] = []
    for item in items:
        if item in seen:
            again.append(item)
        seen.add(item)
    return len(again), sum(map(len, again))


class C4(Part):
    """Rules of C4 (Raffel et al. 2020, JMLR 21:140, 2.2; its code adds the length of words and the policy lines).

    C4 cuts bad lines out and judges what is left. Here the text stays whole: it breaks a rule where C4 would have
    dropped the page. The list of bad words is left out: see the step that scores toxic content.
    """

    min_sentences: Count = 5
    """In the lines that C4 would keep."""
    end_marks: bool = True
    """Count only lines that end in one of . ? ! " ' and not in an ellipsis."""
    min_words_a_line: Count = 3
    max_word_length: Annotated[int, Field(ge=1)] = 1000
    lorem_ipsum: bool = True
    javascript: bool = True
    """Lines that mention it are not counted."""
    curly_bracket: bool = True
    """A page with `{` is taken for code."""
    policy: bool = True
    """Lines on cookies, terms of use or privacy policies are not counted."""


_CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
_POLICY = re.compile(r"terms of use|(?:privacy|cookie) policy|uses? (?:of )?cookies")


def c4(text: str, settings: C4, words: list[str]) -> list[str]:
    """Rules of C4 that a text breaks. It has its own idea of words: what blanks part."""
    sentences, broken = 0, dict[str, None]()
    for line in map(str.strip, text.splitlines()):
        pieces = line.split()
        if len(line) > settings.max_word_length and any(len(piece) > settings.max_word_length for piece in pieces):
            continue
        line = _CITATION.sub("", line)
        if settings.end_marks and (not line.endswith((".", "?", "!", '"', "'")) or line.endswith("...")):
            continue
        if len(pieces) < settings.min_words_a_line:
            continue
        lower = line.lower()
        if settings.lorem_ipsum and "lorem ipsum" in lower:
            broken["lorem ipsum"] = None
        elif settings.javascript and "javascript" in lower:
            continue
        elif settings.curly_bracket and "{" in line:
            broken["curly bracket"] = None
        elif not (settings.policy and _POLICY.search(lower)):
            sentences += sentence_count(line)
    return [*broken, *_named(("too few sentences", sentences < settings.min_sentences))]


class FineWeb(Part):
    """Rules of FineWeb (Penedo et al. 2024, arXiv:2406.17557, 3.6; the last one as its code has it)."""

    min_lines_with_end_mark: Share = 0.12
    """Share of lines that end in a sentence's end mark, of any script."""
    max_short_lines: Share = 0.67
    """Share of lines of at most `short_line` characters."""
    short_line: Count = 30
    max_duplicate_line_characters: Share = 0.01
    """Share of characters in lines that were there before."""
    max_line_ends: Annotated[float, Field(ge=0)] = 0.3
    """Line ends a word."""


def fineweb(text: str, settings: FineWeb, words: list[str]) -> list[str]:
    """Rules of FineWeb that a text breaks."""
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        return ["empty"]
    ended = sum(_ends_sentence(line[-1]) for line in lines)
    short = sum(len(line) <= settings.short_line for line in lines)
    again = _repeated(lines)[1] / len(text.replace("\n", ""))
    return _named(
        ("few lines with an end mark", ended / len(lines) < settings.min_lines_with_end_mark),
        ("short lines", short / len(lines) > settings.max_short_lines),
        ("duplicate lines", again > settings.max_duplicate_line_characters),
        ("line ends", text.count("\n") / max(len(words), 1) > settings.max_line_ends),
    )


class Loops(Part):
    """whet's own rule for answers, which may be short: only what says the same again and again is faulty.

    The threshold lies above what songs with a refrain, regular expressions, lists and calculations in steps reach
    (docs/quality.md).
    """

    max_duplicate_10_grams: Share = 0.35
    """Share of characters in runs of ten words that were there before."""
    min_words: Count = 30
    """Of fewer words nothing is said."""


def loops(text: str, settings: Loops, words: list[str]) -> list[str]:
    """Rules on loops that a text breaks; signs are no words here."""
    spoken = [word for word in words if word[-1].isalnum()]
    if len(spoken) < max(settings.min_words, 10):
        return []
    again = duplicate_n_grams(spoken, [10])[10]
    return _named(("loops", again > settings.max_duplicate_10_grams * sum(map(len, spoken))))


@cache
def _ends_sentence(character: str) -> bool:
    import regex  # knows Unicode's property Sentence_Terminal, which `re` and `unicodedata` do not

    return regex.match(r"\p{Sentence_Terminal}", character) is not None


def _named(*rules: tuple[str, bool]) -> list[str]:
    return [name for name, broken in rules if broken]


Rule = Callable[[str, Any, list[str]], list[str]]
RULES: dict[str, Rule] = {
    "gopher": gopher, "gopher-repetition": gopher_repetition, "c4": c4, "fineweb": fineweb, "loops": loops,
}  # fmt: skip
