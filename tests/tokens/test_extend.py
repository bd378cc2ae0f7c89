"""New words in a tokenizer's vocabulary: what is cut anew, and that nothing else is."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from whet.errors import ModelError
from whet.tokens.extend import add_merges, add_words, check_form, form_for, learn_merges
from whet.tokens.terms import Splitter, find_terms
from whet.tokens.train import train_tokenizer

BASE = [
    "the cat sat on the mat and the dog lay on the rug, then they all went home",
    "she shall find an old rat in the hat of a man who had to stand in the hall all day",
] * 5
LAW = ["the indemnitor shall indemnify the indemnitee; indemnification is the indemnitor's duty"] * 6
ELSEWHERE = ["the dog sat", "they should sit on mats", "  cat\n\n dog 日本 🙂", "indemni", "an indemnitors"]


def make(kind: str) -> Any:
    return train_tokenizer(BASE, kind=kind, vocab_size={"bpe": 290}.get(kind, 310))


def test_terms_are_scored_by_the_tokens_they_would_save() -> None:
    splitter = Splitter(make("bpe"))
    terms = find_terms(splitter, splitter.counted(LAW))
    by_text = {term.text: term for term in terms}
    term = by_text[" indemnitor"]
    assert term.count == 12  # "'s" is a word of its own
    assert term.saved == 12 * (len(splitter.backend.encode(" indemnitor").tokens) - 1)
    assert [t.saved for t in terms] == sorted((t.saved for t in terms), reverse=True)
    assert " the" not in by_text  # one token already


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_whole_words_are_one_token_and_all_other_text_is_cut_as_before(kind: str) -> None:
    tokenizer = make(kind)
    before = {text: tokenizer.tokenize(text) for text in ELSEWHERE[:4]}
    splitter = Splitter(tokenizer)
    assert form_for(splitter) == "words"
    terms = find_terms(splitter, splitter.counted(LAW))
    size = len(tokenizer)
    new = add_words(tokenizer, terms)
    assert sorted(new) == list(range(size, size + len(terms)))
    assert {text: tokenizer.tokenize(text) for text in before} == before
    ids = tokenizer(" indemnitor", add_special_tokens=False)["input_ids"]
    assert len(ids) == 1
    old = make(kind)
    assert new[ids[0]] == old(" indemnitor", add_special_tokens=False)["input_ids"]
    for text in [*LAW, *ELSEWHERE]:
        assert tokenizer.decode(tokenizer(text)["input_ids"], clean_up_tokenization_spaces=False) == text


def test_a_byte_level_word_is_not_taken_out_of_a_longer_one() -> None:
    tokenizer = make("bpe")
    before = tokenizer.tokenize("an indemnitors")
    splitter = Splitter(tokenizer)
    add_words(tokenizer, find_terms(splitter, splitter.counted(LAW)))
    assert tokenizer.tokenize("an indemnitors") == before


@pytest.mark.parametrize("kind", ["bpe", "sentencepiece-bpe"])
def test_merges_gone_on_only_join_what_was_there(kind: str) -> None:
    tokenizer, old = make(kind), make(kind)
    splitter = Splitter(tokenizer)
    counts = splitter.counted(LAW)
    merges = learn_merges(splitter, counts, set(tokenizer.get_vocab()), 12)
    new = add_merges(tokenizer, merges)
    assert len(new) == 12
    for text in [*LAW, *ELSEWHERE]:
        ids = tokenizer(text)["input_ids"]
        assert [piece for token in ids for piece in new.get(token, [token])] == old(text)["input_ids"], text
    saved = sum(len(old(text)["input_ids"]) - len(tokenizer(text)["input_ids"]) for text in LAW)
    assert saved > 0


def test_the_first_merge_is_the_most_frequent_pair() -> None:
    splitter = Splitter(make("bpe"))
    pairs: Counter[tuple[str, str]] = Counter()
    for word, count in splitter.counted(LAW).items():
        pieces = splitter.pieces(word)
        for pair in pairwise(pieces):
            pairs[pair] += count
    (first,) = learn_merges(splitter, splitter.counted(LAW), set(), 1)
    assert pairs[first] == max(pairs.values())


def test_forms_that_cannot_be_are_refused() -> None:
    with pytest.raises(ModelError, match="no merges"):
        check_form(Splitter(make("unigram")), "merges")
    with pytest.raises(ModelError, match="does not split text into words"):
        check_form(Splitter(make("sentencepiece-bpe")), "words")


def test_a_tokenizer_of_another_kind_is_refused() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    with pytest.raises(ModelError, match="kind WordLevel cannot be extended"):
        Splitter(PreTrainedTokenizerFast(tokenizer_object=words))


def test_added_tokens_keep_their_ids_when_the_vocabulary_grows() -> None:
    tokenizer = make("bpe")
    tokenizer.add_tokens(["<finding>"])
    old = tokenizer.convert_tokens_to_ids("<finding>")
    splitter = Splitter(tokenizer)
    new = add_words(tokenizer, find_terms(splitter, splitter.counted(LAW)))
    assert tokenizer.convert_tokens_to_ids("<finding>") == old not in new
    assert tokenizer("cat <finding>")["input_ids"][-1] == old
