"""The rules of Gopher, C4 and FineWeb against datatrove's filters, and what the step does with rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from whet.data.curation.pipeline import curate
from whet.data.steps.quality import broken_rules
from whet.data.steps.quality_rules import (
    C4,
    RULES,
    FineWeb,
    Gopher,
    GopherRepetition,
    Loops,
    duplicate_n_grams,
    loops,
    sentence_count,
    words_of,
)

PROSE = Path(__file__).parents[3] / "../shared/data/corpora/prose"

# datatrove's name of a rule -> ours
NAMES = {
    "gopher_short_doc": "too few words", "gopher_long_doc": "too many words",
    "gopher_below_avg_threshold": "short words", "gopher_above_avg_threshold": "long words",
    "gopher_too_many_hashes": "hash signs", "gopher_too_many_ellipsis": "ellipses",
    "gopher_too_many_bullets": "bullet lines", "gopher_too_many_end_ellipsis": "lines that end in an ellipsis",
    "gopher_below_alpha_threshold": "few alphabetic words", "gopher_enough_stop_words": "few stop words",
    "dup_para_frac": "duplicate paragraphs", "dup_para_char_frac": "characters in duplicate paragraphs",
    "dup_line_frac": "duplicate lines", "dup_line_char_frac": "characters in duplicate lines",
    **{f"top_{n}_gram": f"top {n}-gram" for n in range(2, 5)},
    **{f"duplicated_{n}_n_grams": f"duplicate {n}-grams" for n in range(5, 11)},
    "lorem_ipsum": "lorem ipsum", "curly_bracket": "curly bracket", "too_few_sentences": "too few sentences",
    "line_punct_ratio": "few lines with an end mark", "short_line_ratio": "short lines",
    "char_dup_ratio": "duplicate lines", "list_ratio": "line ends", "empty": "empty",
}  # fmt: skip


@pytest.fixture(scope="module")
def filters() -> dict[str, tuple[Any, Any]]:
    found = pytest.importorskip("datatrove.pipeline.filters", reason="the extra `bench` is not installed")
    return {
        "gopher": (found.GopherQualityFilter(), Gopher()),
        "gopher-repetition": (found.GopherRepetitionFilter(), GopherRepetition()),
        "c4": (found.C4QualityFilter(), C4()),
        "fineweb": (found.FineWebQualityFilter(), FineWeb()),
    }


def documents(count: int) -> list[str]:
    """Made texts, each with a few faults of web pages, in words that every tokenizer cuts alike."""
    draw = np.random.default_rng(0)
    short = "the be to of and that have with it in on he she we go see red old tree".split()  # noqa: SIM905
    long = "window garden travel morning letters ordinary mountain wonderful incomprehensible".split()  # noqa: SIM905

    def sentence(words: int) -> str:
        chosen = [str(draw.choice(long if draw.random() < 0.4 else short)) for _ in range(words)]
        return " ".join(chosen).capitalize() + str(draw.choice([".", ".", ".", "!", "?"]))

    def line() -> str:
        kind = draw.random()
        if kind < 0.12:
            return str(draw.choice(["- ", "• "])) + sentence(int(draw.integers(2, 6)))
        if kind < 0.2:
            return sentence(5)[:-1] + " ..."
        if kind < 0.3:
            return " ".join(str(draw.integers(0, 999)) for _ in range(int(draw.integers(3, 20))))
        if kind < 0.36:
            return str(draw.choice(["Menu", "Read more", "Home", "# # #", "We use cookies.", "Javascript is off now."]))
        if kind < 0.38:
            return str(draw.choice(["Lorem ipsum dolor sit amet is a text.", "It is { a brace } that we see."]))
        return " ".join(sentence(int(draw.integers(3, 14))) for _ in range(int(draw.integers(1, 5))))

    texts = []
    for _ in range(count):
        lines = [line() for _ in range(int(draw.integers(1, 14)))]
        if draw.random() < 0.3:
            lines += [str(draw.choice(lines)) for _ in range(int(draw.integers(1, 5)))]
        if draw.random() < 0.3:
            lines = [sentence(12) for _ in lines]
        texts.append(str(draw.choice(["\n", "\n\n"])).join(lines))
    return texts


def test_made_documents_get_datatroves_verdict(filters: dict[str, tuple[Any, Any]]) -> None:
    from datatrove.data import Document

    for name, (reference, settings) in filters.items():
        seen = set()
        for text in documents(80):
            verdict = reference.filter(Document(text=text, id="0"))
            broken = RULES[name](text, settings, words_of(text))
            assert (verdict is True) == (not broken), (name, verdict, broken, text)
            if verdict is not True:
                assert NAMES[verdict[1]] in broken, (name, verdict, broken, text)
            seen.add(verdict if verdict is True else verdict[1])
        assert len(seen) > 3, (name, seen)  # the texts are good and bad in several ways


@pytest.mark.skipif(not PROSE.is_dir(), reason="needs the prose in ../shared/data")
def test_real_documents_get_datatroves_verdict(filters: dict[str, tuple[Any, Any]]) -> None:
    from datatrove.data import Document
    from datatrove.utils.text import split_into_words

    draw = np.random.default_rng(1)
    texts = []
    for path in sorted(PROSE.glob("*/*.txt"))[::15]:
        text = path.read_text(encoding="utf-8", errors="replace")
        start = int(draw.integers(0, max(len(text) - 3000, 1)))
        texts += [text[start : start + size] for size in (400, 1500)]
    same, plain, total = 0, 0, 0
    for name, (reference, settings) in filters.items():
        for text in texts:
            good = reference.filter(Document(text=text, id="0")) is True
            same += good == (not RULES[name](text, settings, split_into_words(text)))
            plain += good == (not RULES[name](text, settings, words_of(text)))
            total += 1
    assert total - same <= total // 200  # given its words; sentences are counted by another rule than spaCy's
    assert plain >= 0.98 * total


def test_n_grams_that_come_again() -> None:
    words = ["a", "b", "c", "a", "b", "c", "a", "b"]
    # 2-grams, one after another: ab bc ca, then "ab" again at 3, "ca" at 5 (as "ab" took two words), and b is left
    assert duplicate_n_grams(words, [2, 3]) == {2: 4, 3: 3}
    assert duplicate_n_grams(["all", "of", "these", "words", "differ"], [2, 3]) == {2: 0, 3: 0}


def test_sentences() -> None:
    assert sentence_count("One. Two! Is it three? (Four.)") == 4
    assert sentence_count("Mr. A. Smith paid 3.50 to Dr. Jones") == 1
    assert sentence_count("") == 0


def test_only_long_repetition_is_a_loop() -> None:
    stuck = "The answer is that " + "it depends on the case and on the law of the land " * 8
    refrain = (
        "Row on, row on.\nThe sea is wide and I am small.\n" * 2 + "Dawn comes late over the hills of home tonight."
    )
    steps = "\n".join(f"On day {n} she has {n} * 3 = {n * 3} apples in all." for n in range(1, 9))
    assert loops(stuck, Loops(), words_of(stuck)) == ["loops"]
    for good in (refrain, steps, "Yes", "no no no no no"):
        assert loops(good, Loops(), words_of(good)) == []


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "Is ice cold?", "input": "", "output": "Yes"},
        {"prompt": "2+2?", "completion": "4"},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]},
        {"messages": [{"role": "user", "content": "Hi"}]},
        {"question": "Is ice cold?", "answer": "Yes"},
        {"text": "A fine film.", "label": "positive"},
    ],
)
def test_short_rows_that_are_no_web_pages_stay(row: dict[str, Any]) -> None:
    assert curate([row], [{"quality": {}}]).rows == [row]


def test_running_text_is_held_to_the_published_rules() -> None:
    good = " ".join(
        f"The {n} men went to the house and we have to go with them before it is dark." for n in ["one", "two"]
    )
    good = " ".join(good.replace("men", word) for word in ("men", "boys", "farmers", "sailors", "teachers"))
    done = curate([{"text": "Click here"}, {"text": good, "id": 7}], [{"quality": {"rules": ["gopher"]}}])
    assert done.rows == [{"text": good, "id": 7}]
    assert done.ledger.steps[0].reasons == {"gopher: too few words": 1, "gopher: few stop words": 1}
    assert curate([{"text": "Click here"}, {"text": "x", "label": 1}], [{"quality": {}}]).rows == [
        {"text": "x", "label": 1}
    ]


def test_flags_name_the_rules_and_thresholds_can_be_set() -> None:
    row = {"prompt": "Say it", "completion": "to be with them"}
    step = {"rules": ["gopher"], "part": "answer", "action": "flag"}
    (flagged,) = curate([row], [{"quality": step}]).rows or []
    assert flagged == {**row, "quality": ["gopher: too few words"]}
    assert curate([row], [{"quality": step | {"gopher": {"min_words": 4}}}]).rows == [row]
    assert broken_rules("to be with them", ["gopher", "c4"]) == ["gopher: too few words", "c4: too few sentences"]


def test_answers_in_columns_of_other_names() -> None:
    from whet.data.curation.settings import check_curation

    tree = {
        "prompt_columns": ["q"],
        "answer_columns": ["a"],
        "steps": [{"quality": {"part": "answer", "rules": ["gopher"]}}],
    }
    rows = [{"q": "to be and that " * 20, "a": "no"}, {"q": "?", "a": "to be and that have them " * 10}]
    assert curate(rows, check_curation(tree, "test")).rows == rows[1:]
