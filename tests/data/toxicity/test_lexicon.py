"""The lexicon on sentences of our own: terms, spelling variants, contexts, other senses."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from whet.data.toxicity.lexicon import KINDS, Lexicon, read_terms
from whet.errors import RecipeError


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon()


def test_a_sentence_adds_up_and_the_worst_counts(lexicon: Lexicon) -> None:
    assert lexicon.score("You absolute idiot.") == (0.25, ["insult"])
    assert lexicon.score("Damn, you idiot.") == (pytest.approx(1 - 0.75**2), ["insult", "profanity"])
    assert lexicon.score("Damn. You idiot. A fine day.") == (0.25, ["insult", "profanity"])
    assert lexicon.score("A fine day." * 100 + " You idiot.")[0] == 0.25
    assert lexicon.score("") == (0.0, [])


@pytest.mark.parametrize(
    "text",
    ["you 1di0t", "you iiiidiot", "you i d i o t", "you i.d.i.o.t", "you id!ot", "you IDIOT", "you ídiot",
     "you i**ot", "you idiots"],
)  # fmt: skip
def test_spelling_variants_count_as_the_word(lexicon: Lexicon, text: str) -> None:
    assert lexicon.score(text) == (0.25, ["insult"])


@pytest.mark.parametrize(
    "text",
    [
        "Plan A b c d, room 4b, 3D film at 10am, call 555-0100, aaaah, $100, user@example.org",
        "The class assessed the bass in Scunthorpe's documents.",  # terms inside words
        "A chink in his armour was found.",
        "The homo sapiens remains are old.",
        "Flame retardant curtains; the dyke held back the flood water.",
        "Take out the trash for them, and the garbage can.",
        "Women hate spiders.",  # who hates is not who is hated
        "The cells of lung cancer in women were studied.",
        "i d i o t " * 40,  # a run too long to be a word
        "Animals live here. Muslims and Jews live there.",  # not in one sentence
    ],
)
def test_what_is_no_toxic_text_scores_nothing(lexicon: Lexicon, text: str) -> None:
    assert lexicon.score(text) == (0.0, [])


@pytest.mark.parametrize(
    ("text", "left", "contexts"),
    [
        ("Muslims are vermin.", 0.9, ()),
        ("Muslims are not vermin.", 0.27, ("negated",)),
        ('He said "Muslims are vermin" and left the room.', 0.45, ("quoted",)),
        ("“Muslims are vermin”", 0.9, ()),  # all of it a quotation
        ('Saying "Muslims are vermin" is wrong.', 0.135, ("quoted", "condemned")),
        ("Muslims are vermin. That is unacceptable.", 0.27, ("condemned",)),
        ("I am a proud dyke.", 0.18, ("reclaimed",)),
        ("That dyke is loud.", 0.9, ()),
    ],
)
def test_contexts_take_weight(lexicon: Lexicon, text: str, left: float, contexts: tuple[str, ...]) -> None:
    [(_, hit)] = lexicon.find(text)
    assert hit.weight == pytest.approx(left)
    assert hit.contexts == contexts


def test_words_that_need_a_group_or_a_person(lexicon: Lexicon) -> None:
    assert lexicon.score("The old barn is infested.") == (0.0, [])
    assert lexicon.score("They hate immigrants.") == (0.9, ["attack"])
    assert lexicon.score("I hate rain.") == (0.0, [])
    assert lexicon.score("What a stupid rule.") == (0.0, [])
    assert lexicon.score("You are stupid.") == (0.25, ["insult"])


def test_a_hit_says_where(lexicon: Lexicon) -> None:
    text = "Well: you 1di0t, go."
    [(sentence, hit)] = lexicon.find(text)
    assert (sentence, hit.term, text[hit.start : hit.start + 6]) == (0, "idiot", "1di0t,")


def test_terms_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "terms.txt"
    path.write_text("# ours\ninsult 2: gronk {unless guitar}, total zib\n")
    mine = Lexicon(path)
    assert mine.score("What a gronk!") == (0.6, ["insult"])
    assert mine.score("A gronk on the guitar.") == (0.0, [])
    assert mine.score("total zibs") == (0.6, ["insult"])
    path.write_text("insult: gronk\n")
    with pytest.raises(RecipeError, match=r"terms\.txt:1: not a line of terms"):
        Lexicon(path)
    with pytest.raises(RecipeError, match="cannot be read"):
        Lexicon(tmp_path / "none.txt")


def test_every_term_of_the_list_is_found(lexicon: Lexicon) -> None:
    """Each in a sentence that gives it what it needs; so no line is mistyped or hidden by another."""
    text = resources.files("whet.data.toxicity").joinpath("terms.txt").read_text(encoding="utf-8")
    terms = read_terms(text, "terms.txt")
    assert len(terms) > 400
    assert {term.kind for term in terms} == set(KINDS)
    for term in terms:
        sentence = f"you and {' '.join(term.words)} muslims"
        assert any(hit.weight > 0 for _, hit in lexicon.find(sentence)), term.words
