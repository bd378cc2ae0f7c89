"""Tokenizers trained here: beside sentencepiece's own ids, exact round trips, and what is refused."""

from __future__ import annotations

import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from whet.errors import RecipeError, RowError, RunError
from whet.tokens.template import Renderer
from whet.tokens.train import Settings, _normalizers, train_tokenizer

WORDS = [
    "tenant",
    "landlord",
    "lease",
    "annex",
    "notice",
    "deposit",
    "termination",
    "indemnity",
    "assignment",
    "renewal",
    "schedule",
    "premises",
    "insurance",
    "liability",
    "arbitration",
    "covenant",
    "guarantor",
    "mortgage",
    "parcel",
    "easement",
    "Über",
    "café",
    "naïve",
    "№",
    "broker",
    "escrow",
    "warranty",
    "remedy",
    "waiver",
    "jurisdiction",
    "severability",
    "confidentiality",
    "damages",
    "payment",
    "interest",
    "default",
    "breach",
    "consent",
    "approval",
]
_draw = random.Random(0)
TEXTS = [
    f"The {' '.join(_draw.choices(WORDS, k=9))}, within {number} days;  see  annex {number % 7}.\n\nAnd {word}."
    for number, word in enumerate(WORDS * 4)
]
HARD = [
    "", " ", "  two  blanks ", "tab\tand\r\nline\n\n\nends",
    "日本語 and 🙂👩‍👩‍👧 and ẞ", "<0x0A> is no line break", "nul \0 here",
    "e\u0301 decomposed", "١٢٣ ⅓ x²", "indemnificationindemnification",
]  # fmt: skip
KINDS = ["bpe", "unigram", "sentencepiece-bpe"]


@pytest.fixture(scope="module")
def trained() -> dict[str, Any]:
    return {kind: train_tokenizer(TEXTS, kind=kind, vocab_size=350, normalizer="none") for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_every_text_comes_back_to_the_letter(trained: dict[str, Any], kind: str) -> None:
    for text in [*TEXTS, *HARD]:
        ids = trained[kind](text, add_special_tokens=False)["input_ids"]
        assert trained[kind].decode(ids, clean_up_tokenization_spaces=False) == text


@pytest.mark.parametrize("kind", KINDS)
def test_it_has_the_size_asked_for_and_is_the_same_twice(trained: dict[str, Any], kind: str) -> None:
    again = train_tokenizer(iter(TEXTS), kind=kind, vocab_size=350, normalizer="none")
    assert len(trained[kind]) == 350
    assert again.backend_tokenizer.to_str() == trained[kind].backend_tokenizer.to_str()


@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize("normalizer", ["none", "nfc"])
def test_the_fast_form_gives_sentencepieces_own_ids(kind: Any, normalizer: Any) -> None:
    pytest.importorskip("sentencepiece")
    from whet.tokens.sentencepieces import as_fast, train_model

    settings = Settings(kind, 350, normalizer)
    rules = _normalizers(settings)
    model = train_model(iter(TEXTS), settings, rules, lambda fills: AssertionError(fills))
    fast = as_fast(model, kind == "unigram", rules)
    for text in [*TEXTS, *HARD]:
        given = unicodedata.normalize("NFC", text) if normalizer == "nfc" else text
        assert fast.encode(text).ids == model.encode(given), text


@pytest.mark.parametrize("kind", KINDS)
def test_the_folder_loads_with_auto_tokenizer(tmp_path: Path, kind: Any) -> None:
    from transformers import AutoTokenizer

    made = train_tokenizer(TEXTS, tmp_path / "t", kind=kind, vocab_size=355, bos="<s>", special=("<tool>",))
    loaded = AutoTokenizer.from_pretrained(tmp_path / "t")
    assert loaded.is_fast
    text = "The tenant <tool> insures café\n" + HARD[4]
    ids = loaded(text)["input_ids"]
    assert ids == made(text)["input_ids"]
    assert ids[0] == loaded.bos_token_id
    assert loaded.convert_tokens_to_ids("<tool>") in ids
    assert loaded.pad_token == loaded.eos_token == "<|endoftext|>"
    assert list(tmp_path.iterdir()) == [tmp_path / "t"]


def test_its_chat_template_renders_and_only_the_answer_is_learnt(trained: dict[str, Any]) -> None:
    turns = [{"role": "user", "content": "who assigns?"}, {"role": "assistant", "content": "the tenant"}]
    (row,) = Renderer(trained["bpe"]).conversation(turns)
    assert row.text == "<|im_start|>user\nwho assigns?<|im_end|>\n<|im_start|>assistant\nthe tenant<|im_end|>\n"
    assert trained["bpe"].decode(row.ids[row.targets]) == "the tenant<|im_end|>"


def test_digits_stand_alone_where_asked() -> None:
    texts = ["in 2024 and 2024 again, since 2024"] * 50
    alone = train_tokenizer(texts, kind="bpe", vocab_size=262)
    together = train_tokenizer(texts, kind="bpe", vocab_size=262, digits_alone=False)
    assert alone.tokenize("2024") == list("2024")
    assert len(together.tokenize("2024")) < 4


def test_lower_casing_does_what_it_says() -> None:
    made = train_tokenizer(TEXTS, kind="unigram", vocab_size=345, normalizer="nfkc-lower")
    assert made.decode(made("The ﬁne Café")["input_ids"][: len(made)]) == "the fine café"


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_that_cannot_be_filled_names_the_number_that_can(kind: Any) -> None:
    with pytest.raises(RecipeError, match="more than these texts can fill") as caught:
        train_tokenizer(TEXTS, kind=kind, vocab_size=50_000)
    assert caught.value.do is not None
    fills = int(caught.value.do.split()[1].replace(",", ""))
    assert len(train_tokenizer(TEXTS, kind=kind, vocab_size=fills)) == fills


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_too_small_for_bytes_is_refused(tmp_path: Path, kind: Any) -> None:
    with pytest.raises(RecipeError, match="too small"):
        train_tokenizer(TEXTS, tmp_path / "t", kind=kind, vocab_size=258)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_and_half_a_character_are_refused(kind: Any) -> None:
    with pytest.raises(RowError, match="no texts"):
        train_tokenizer([], kind=kind, vocab_size=350)
    with pytest.raises(RowError, match="text 2: half of a character"):
        train_tokenizer(["whole", "half \ud83d"], kind=kind, vocab_size=350)


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(RunError, match="there already"):
        train_tokenizer(TEXTS, tmp_path, kind="bpe", vocab_size=350)
