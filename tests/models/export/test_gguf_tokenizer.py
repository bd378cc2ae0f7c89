"""Tokenizers as llama.cpp has them: read back, they make the tokens of the Hugging Face tokenizer, or are refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from whet.errors import ModelError
from whet.models.export.gguf_tokenizer import encoder, vocabulary_of

CORPUS = [
    "The cat's 12 hats; they'll cost 3,456.78 in 2024, won't they?",
    "def f(x):\n    return x >= 10\n\n\n\tprint('naïve café')   # blanks  here",
    "Zürich, 東京, Москва and İstanbul: 1234567890 people",
] * 3
TEXTS = [
    *CORPUS,
    "",
    " ",
    "   leading and trailing   ",
    "<|start|>user\nHello 2025<|end|>\n<|start|>assistant\n",
    "a<|end|> b<|end|>c",
    "🙂🙃 ٣٤٥ Ⅻ ½ e\u0301 \u00a0x\u2003y",
    "HELLO World'S it'S THEY'LL",
    "\r\n\r\n x\r\n",
]
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = QWEN2.replace(r"\p{N}| ", r"\p{N}{1,3}| ")
SPECIAL = ["<|start|>", "<|end|>"]


def by_bytes(steps: list[Any], **settings: Any) -> Tokenizer:
    """A byte-level BPE tokenizer with these steps before it."""
    tokenizer = Tokenizer(models.BPE(**settings))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def by_pieces(prepend: bool) -> Tokenizer:
    """A SentencePiece-like tokenizer, as converters make them: every way to put a piece together is a merge."""
    train = Tokenizer(models.BPE())
    train.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    pieces = [*SPECIAL, "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    train.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=400, special_tokens=pieces, show_progress=False))
    tree = json.loads(train.to_str())["model"]
    known, merges = tree["vocab"], [tuple(pair) for pair in tree["merges"]]
    made = ["".join(pair) for pair in merges]
    pairs = [(piece[:at], piece[at:]) for piece in made for at in range(1, len(piece))]
    merges = [(left, right) for left, right in pairs if left in known and right in known]
    tokenizer = Tokenizer(models.BPE(known, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [*([normalizers.Prepend("▁")] if prepend else []), normalizers.Replace(" ", "▁")]
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL])
    return tokenizer


def whole(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", chat_template="{{ messages }}")


LAST = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
KINDS: dict[str, Callable[[], Tokenizer]] = {
    "gpt-2": lambda: by_bytes([pre_tokenizers.ByteLevel(add_prefix_space=False)]),
    "smollm": lambda: by_bytes([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
    "qwen2": lambda: by_bytes([pre_tokenizers.Split(Regex(QWEN2), "isolated"), LAST]),
    "llama-bpe": lambda: by_bytes([pre_tokenizers.Split(Regex(LLAMA3), "isolated"), LAST], ignore_merges=True),
    "pieces": lambda: by_pieces(prepend=False),
    "blank and pieces": lambda: by_pieces(prepend=True),
}


@pytest.fixture(scope="module", params=list(KINDS))
def pair(request: Any) -> tuple[Any, Callable[[str, bool], list[int]], Any]:
    """A tokenizer, the encoder that was read back, and the vocabulary between."""
    tokenizer = whole(KINDS[request.param]())
    vocabulary = vocabulary_of(tokenizer, frozenset([tokenizer.eos_token_id]), len(tokenizer) + 7)
    return tokenizer, encoder(vocabulary), (request.param, vocabulary)


def test_tokens_are_the_same(pair: Any) -> None:
    tokenizer, encode, (kind, vocabulary) = pair
    for text in TEXTS:
        assert encode(text, False) == tokenizer(text, add_special_tokens=False).input_ids, text
    assert vocabulary.pre == ("default" if "pieces" in kind else kind)
    assert vocabulary.model == ("llama" if "pieces" in kind else "gpt2")
    assert len(vocabulary.tokens) == len(tokenizer) + 7
    assert vocabulary.tokens[-1] == f"[PAD{len(tokenizer) + 6}]"


@given(st.text(max_size=40))
def test_tokens_of_any_text_are_the_same(pair: Any, text: str) -> None:
    tokenizer, encode, _ = pair
    assert encode(text, False) == tokenizer(text, add_special_tokens=False).input_ids


def test_another_way_to_split_makes_other_tokens() -> None:
    tokenizer = whole(KINDS["gpt-2"]())
    vocabulary = vocabulary_of(tokenizer, frozenset([1]), len(tokenizer))
    other = encoder(dataclasses.replace(vocabulary, pre="smollm"))
    assert other("in 2024", False) != tokenizer("in 2024").input_ids


def test_special_tokens_that_the_tokenizer_adds(tiny_tokenizer: Callable[[], Any]) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    vocabulary = vocabulary_of(tokenizer, frozenset([1, 2]), 288)
    assert (vocabulary.add_bos, vocabulary.add_eos, vocabulary.stops) == (True, True, [1, 2])
    assert encoder(vocabulary)("the cat", True) == tokenizer("the cat").input_ids


def test_a_tokenizer_that_whet_trains_has_a_form_of_llama_cpp() -> None:
    from whet.tokens.train import train_tokenizer

    for digits_alone, name in ((True, "smollm"), (False, "gpt-2")):
        tokenizer = train_tokenizer(CORPUS, kind="bpe", vocab_size=290, digits_alone=digits_alone)
        vocabulary = vocabulary_of(tokenizer, frozenset([0]), 290)
        assert vocabulary.pre == name
        for text in TEXTS[:6]:
            assert encoder(vocabulary)(text, False) == tokenizer(text)["input_ids"]


def test_what_llama_cpp_would_split_otherwise_is_refused(tiny_tokenizer: Callable[[], Any]) -> None:
    word = pre_tokenizers.Split(Regex(r"\w+"), "isolated")
    lower = by_bytes([pre_tokenizers.ByteLevel(add_prefix_space=False)])
    lower.normalizer = normalizers.Lowercase()
    blanks = by_bytes([pre_tokenizers.ByteLevel(add_prefix_space=False)])
    blanks.add_tokens([AddedToken("<mask>", lstrip=True)])
    unigram = Tokenizer(models.Unigram([("<|end|>", 0.0), ("a", -1.0)], 0))
    pieces = ["<unk>", "a", "b", "c", "ab", "bc", "abc", *(f"<0x{byte:02X}>" for byte in range(256))]
    known = {piece: number for number, piece in enumerate(pieces)}
    few = Tokenizer(models.BPE(known, [("a", "b"), ("b", "c"), ("ab", "c")], unk_token="<unk>", byte_fallback=True))
    taken_whole = by_bytes([pre_tokenizers.ByteLevel(add_prefix_space=False)])
    taken_whole.model.ignore_merges = True
    refused = {
        r"words that are tokens are taken whole": taken_whole,
        r"a pre-tokenizer that splits by \['\\\\w\+'\]": by_bytes([word, LAST]),
        "the pre-tokenizer ByteLevel": by_bytes([pre_tokenizers.ByteLevel(add_prefix_space=True)]),
        "the pre-tokenizer Punctuation": by_bytes([pre_tokenizers.Punctuation(), LAST]),
        "the normalizer Lowercase": lower,
        "'<mask>', which takes the blanks": blanks,
        "a tokenizer of Unigram": unigram,
        r"merges that are not SentencePiece's \('a' and 'bc' do not merge\)": few,
    }
    for words, tokenizer in refused.items():
        with pytest.raises(ModelError, match=words) as caught:
            vocabulary_of(whole(tokenizer), frozenset([0]), 1000)
        assert "--to hf" in str(caught.value.do)
    with pytest.raises(ModelError, match="4 tokens that end an answer"):
        vocabulary_of(tiny_tokenizer(), frozenset([1, 2, 3, 4]), 288)
