"""Hashed words and n-grams against words and tuples of them, made one by one."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whet.data.near.ngrams import ngrams, words

TEXTS = st.lists(st.text(st.sampled_from("abAB01 .,-_\n\té’中ü"), max_size=60), max_size=6)


def plain_words(text: str) -> list[str]:
    return re.findall(r"中|[a-z0-9éü]+", text.lower())


@given(TEXTS)
@settings(max_examples=200, deadline=None)
def test_words_are_the_runs_of_letters_and_digits(texts: list[str]) -> None:
    hashes, bounds = words(texts)
    plain = [plain_words(text) for text in texts]
    assert np.diff(bounds).tolist() == [len(of) for of in plain]
    flat = [word for of in plain for word in of]
    # equal words have equal hashes, others have others
    assert len(set(hashes.tolist())) == len(set(flat))
    assert len(set(zip(flat, hashes.tolist(), strict=True))) == len(set(flat))


@given(TEXTS, st.integers(1, 6))
@settings(max_examples=200, deadline=None)
def test_ngrams_are_the_runs_of_words_within_a_text(texts: list[str], n: int) -> None:
    hashes, bounds = ngrams(*words(texts), n)
    plain = [list(zip(*(plain_words(text)[k:] for k in range(n)), strict=False)) for text in texts]
    assert np.diff(bounds).tolist() == [len(of) for of in plain]
    flat = [run for of in plain for run in of]
    assert len(set(hashes.tolist())) == len(set(flat))
    assert len(set(zip(flat, hashes.tolist(), strict=True))) == len(set(flat))


def test_a_word_has_one_hash_in_whatever_company() -> None:
    long = "pneumonoultramicroscopicsilicovolcanoconiosis"
    alone = {word: int(words([word])[0][0]) for word in ("a", "exactly8", "ninebytes", long, "café")}
    hashes, bounds = words(["A, exactly8!", f"({long.upper()}) ninebytes", "CAFÉ", "cafe\u0301"])
    assert bounds.tolist() == [0, 2, 4, 5, 6]
    expected = [alone["a"], alone["exactly8"], alone[long], alone["ninebytes"], alone["café"], alone["café"]]
    assert hashes.tolist() == expected
    assert len(set(alone.values())) == len(alone)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("“Well — it’s 3.5%”", 5),
        ("我爱你", 3),
        ("สวัสดี", 6),
        ("नमस्ते दुनिया", 2),
        ("a_b", 2),
        ("", 0),
        (" \n", 0),
        ("\ud800x", 1),
    ],
)
def test_words_of_other_writing(text: str, count: int) -> None:
    assert len(words([text])[0]) == count


def test_no_texts_at_all() -> None:
    hashes, bounds = ngrams(*words([]), 5)
    assert len(hashes) == 0
    assert bounds.tolist() == [0]
