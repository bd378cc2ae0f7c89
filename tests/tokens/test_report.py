"""The figures of tokenizers on texts, by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from whet.errors import RowError
from whet.tokens.pieces import Bytes
from whet.tokens.report import compare, readable
from whet.tokens.train import train_tokenizer

BASE = [
    "the cat sat on the mat and the dog lay on the rug, then they all went home",
    "she shall find an old rat in the hat of a man who had to stand in the hall all day",
] * 5


def test_figures_counted_by_hand(tiny_tokenizer: Callable[[], Any]) -> None:
    tokenizer = tiny_tokenizer()
    texts = [("a:1", "the cat sat"), ("a:2", "日 the")]
    (found,) = compare({"tiny": tokenizer}, texts)
    lengths = [len(tokenizer.tokenize(text)) for _, text in texts]
    assert found.lengths == lengths
    assert (found.texts, found.words, found.bytes) == (2, 5, 11 + 7)
    tree = found.tree()
    assert tree["bytes_per_token"] == pytest.approx(18 / sum(lengths))
    assert tree["tokens_per_word"] == pytest.approx(sum(lengths) / 5)
    # one letter of the byte alphabet is one byte
    alone = sum(len(piece) == 1 for _, text in texts for piece in tokenizer.tokenize(text))
    assert found.single_bytes == alone >= 3
    assert found.changed == 0


def test_what_does_not_come_back_is_named() -> None:
    tokenizer = train_tokenizer(BASE, kind="bpe", vocab_size=290, normalizer="nfkc-lower")
    (found,) = compare({"low": tokenizer}, [("a:1", "the cat"), ("a:2", "the Cat")])
    assert found.changed == 1
    assert found.first_changed == ("a:2", "the Cat", "the cat")


def test_unknown_tokens_are_counted() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1, "cat": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    (found,) = compare(
        {"words": PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]")}, [("a:1", "the dog cat ran")]
    )
    assert found.unknown == 2


def test_the_longest_and_the_costliest_word(tiny_tokenizer: Callable[[], Any]) -> None:
    texts = [("a", "zyx zyx zyx zyx the qwertyuiop")]
    (found,) = compare({"tiny": tiny_tokenizer()}, texts)
    assert found.longest[0].text == "qwertyuiop"
    assert "".join(found.longest[0].pieces) == " qwertyuiop"
    assert found.costliest[0].text == max(
        ["zyx", "qwertyuiop"],
        key=lambda word: (len(tiny_tokenizer().tokenize(f" {word}")) - 1) * texts[0][1].split().count(word),
    )


@pytest.mark.parametrize("kind", ["bpe", "unigram", "sentencepiece-bpe"])
def test_the_bytes_of_tokens_make_the_text(kind: Any) -> None:
    tokenizer = train_tokenizer(BASE, kind=kind, vocab_size=312)
    text = "the cat 日本 🙂\n\tGrüße <|im_end|>"
    as_bytes = Bytes(tokenizer)
    assert b"".join(as_bytes.of(token) for token in tokenizer(text)["input_ids"]) == text.encode()


def test_half_a_character_is_shown_as_bytes() -> None:
    assert readable("é".encode()[:1] + b"a") == "<C3>a"


def test_no_texts_and_half_characters_are_refused(tiny_tokenizer: Callable[[], Any]) -> None:
    with pytest.raises(RowError, match="no texts"):
        compare({"tiny": tiny_tokenizer()}, [])
    with pytest.raises(RowError, match="a:3: half of a character"):
        compare({"tiny": tiny_tokenizer()}, [("a:3", "x\ud800")])
