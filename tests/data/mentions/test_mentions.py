"""Mentions of groups and what describes them, on sentences of our own; log-odds against the formula, term by term."""

from __future__ import annotations

import math

import pytest

from whet.data.mentions.compare import log_odds, mean_interval
from whet.data.mentions.describe import descriptors, tone, tones
from whet.data.mentions.find import axes, find_mentions
from whet.data.words import sentences, words


def groups(text: str) -> list[str]:
    return [m.group for start, stop in sentences(text) for m in find_mentions(words(text[start:stop], start))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("She thanked him.", ["women", "men"]),
        ("A black car stood by a white wall.", []),
        ("Black women vote.", ["black people", "women"]),
        ("He is black.", ["men", "black people"]),
        ("The sky is black.", []),
        ("He's white.", ["men", "white people"]),
        ("Draw a straight line, then go straight.", []),
        ("The straight man and the gay man.", ["straight people", "men", "gay people", "men"]),
        ("Polish the silver. Please polish it.", []),
        ("A Polish baker and two Poles met at the pole.", ["polish people", "polish people"]),
        ("The Indian Ocean is warm; Indians fish there.", ["south asian people"]),
        ("A blind test, and a blind man.", ["blind people", "men"]),
        ("The button is disabled; disabled people wait.", ["disabled people"]),
        ("Old women and old wine.", ["old people", "women"]),  # two axes at one place
        ("Native American art, American art.", ["indigenous people", "american people"]),  # the longest counts
        ("My uncle's Jewish friends", ["men", "jews"]),
        ("French fries with German shepherds", []),
        ("Womenfolk, manifold, Romans.", []),
    ],
)
def test_words_count_in_the_sense_of_people(text: str, expected: list[str]) -> None:
    assert groups(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The kind and very brave women left.", ["brave", "kind"]),
        ("Women are kind and really brave.", ["kind", "brave"]),
        ("Women aren't lazy.", ["not lazy"]),
        ("She is a skilled nurse.", ["skilled", "a nurse"]),
        ("She's never late.", ["not late"]),
        ("Women who are poor", ["poor"]),
        ("Women are going home.", []),
        ("Women met. Brave words.", []),
        ("I saw the women, brave or not.", []),
    ],
)
def test_descriptors(text: str, expected: list[str]) -> None:
    start, stop = next(iter(sentences(text)))
    tokens = words(text[start:stop])
    assert descriptors(tokens, find_mentions(tokens)[0]) == expected


def test_tone() -> None:
    assert [tone(word) for word in ("kind", "not kind", "lazy", "not lazy", "tall", "a nurse")] == [1, -1, -1, 1, 0, 0]
    listed = [word for words in (tones(),) for word in words]
    assert len(listed) > 400


def test_axes_are_those_of_the_file() -> None:
    assert list(axes()) == ["gender", "religion", "ethnicity", "age", "disability", "orientation"]


def test_log_odds_follow_the_paper() -> None:
    ours, theirs, prior = {"kind": 30, "tall": 10}, {"kind": 10, "tall": 40, "old": 10}, 50.0
    found = {odds.word: odds for odds in log_odds(ours, theirs, prior)}
    total = 100
    for word in ("kind", "tall", "old"):
        y1, y2 = ours.get(word, 0), theirs.get(word, 0)
        a = prior * (y1 + y2) / total
        omega1, omega2 = (y1 + a) / (40 + prior - y1 - a), (y2 + a) / (60 + prior - y2 - a)
        delta, sigma = math.log(omega1 / omega2), math.sqrt(1 / (y1 + a) + 1 / (y2 + a))
        assert found[word].log_odds == pytest.approx(delta)
        assert found[word].z == pytest.approx(delta / sigma)
        assert found[word].high - found[word].low == pytest.approx(2 * 1.959964 * sigma)
    assert log_odds(ours, theirs, prior)[0].word == "kind"
    assert log_odds({}, {}) == []
    # a stronger prior draws towards zero
    weak, strong = ({o.word: o.log_odds for o in log_odds(ours, theirs, p)}["kind"] for p in (1.0, 1000.0))
    assert 0 < strong < found["kind"].log_odds < weak


def test_mean_interval() -> None:
    assert mean_interval([1.0]) is None
    mean, low, high = mean_interval([0.0, 1.0, 2.0, 3.0]) or (0, 0, 0)
    assert (mean, low, high) == pytest.approx(
        (1.5, 1.5 - 1.959964 * math.sqrt(5 / 12), 1.5 + 1.959964 * math.sqrt(5 / 12))
    )
