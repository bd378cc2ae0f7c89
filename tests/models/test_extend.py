"""A model with a domain's words: what is kept, what the new rows are, and that others load it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from whet.errors import ModelError, RowError, RunError
from whet.models.extend import _bits, extend
from whet.models.load import load

LAW = ["the indemnitor shall indemnify the indemnitee; indemnification is the indemnitor's duty"] * 6


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def folder(tmp_path: Path, request: Any, tiny_model: Callable[..., Any], tiny_tokenizer: Callable[[], Any]) -> Path:
    """A model with shorter weights than float32, so that a detour over it would show."""
    path = tmp_path / "model"
    tiny_model(tie_word_embeddings=request.param).to(torch.bfloat16).save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


def test_plain_transformers_loads_it_and_old_rows_are_bit_for_bit(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    done = extend(str(folder), LAW, tmp_path / "out", add=4)
    old, new = (AutoModelForCausalLM.from_pretrained(path) for path in (folder, tmp_path / "out"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert new.dtype == torch.bfloat16
    assert new.config.tie_word_embeddings == old.config.tie_word_embeddings
    assert new.config.vocab_size == len(tokenizer) == 288 + 4
    for before, after in zip(old.parameters(), new.parameters(), strict=True):
        assert torch.equal(before, after[: len(before)])
    assert len(tokenizer.tokenize(done.tokens[0])) == 1
    assert tokenizer.chat_template == load(str(folder)).tokenizer.chat_template
    assert done.tokens_after < done.tokens_before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out"]


def test_an_untied_head_foresees_a_word_where_its_first_piece_was(
    tmp_path: Path, tiny_model: Callable[..., Any], tiny_tokenizer: Callable[[], Any]
) -> None:
    tiny_model().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    extend(str(tmp_path / "model"), LAW, tmp_path / "out", add=1, fit=False)
    loaded = load(str(tmp_path / "out"), torch.float32)
    before = load(str(tmp_path / "model"), torch.float32).tokenizer
    word = loaded.tokenizer.convert_ids_to_tokens(288)
    text = loaded.tokenizer.convert_tokens_to_string([word])
    pieces = before(text, add_special_tokens=False)["input_ids"]
    # by hand: the word's times, and those of its first piece under the old tokenizer
    times = sum(part.count(text) for part in LAW)
    firsts = sum(before(part)["input_ids"].count(pieces[0]) for part in LAW)
    head, inputs = loaded.model.lm_head.weight.detach(), loaded.model.get_input_embeddings().weight.detach()
    states = []
    hook = loaded.model.lm_head.register_forward_pre_hook(lambda _, given: states.append(given[0][0]))
    base = load(str(tmp_path / "model"), torch.float32).model
    base.lm_head.register_forward_pre_hook(lambda _, given: states.append(given[0][0]))
    _bits(base, before, LAW)
    hook.remove()
    shift = torch.cat(states) @ (head[288] - head[pieces[0]])
    assert shift.mean().item() == pytest.approx(math.log((times + 0.5) / (firsts + 1)), abs=0.05)
    mean = inputs[pieces].mean(0)
    assert torch.allclose(inputs[288], (mean + inputs[pieces[-1]]) / 2, atol=1e-6)


def test_named_terms_are_added_and_those_that_cannot_be_are_told(folder: Path, tmp_path: Path) -> None:
    named = ["indemnitor", "the indemnitee", "cat", "sat", "Novation", ""]
    known = load(str(folder)).tokenizer
    single = [name for name in ("cat", "sat") if len(known.tokenize(f" {name}")) == 1]
    done = extend(str(folder), LAW, tmp_path / "out", terms=named)
    assert {" indemnitor", " Novation"} <= {term.text for term in done.terms}
    assert ("the indemnitee", "several words to this tokenizer; 'model.new_tokens=[...]' takes such") in done.left_out
    assert {name for name, why in done.left_out if why == "one token already"} == set(single)


def test_merges_make_every_named_term_one_token(folder: Path, tmp_path: Path) -> None:
    extend(str(folder), LAW, tmp_path / "out", terms=["indemnitor", "indemnification"], form="merges")
    tokenizer = load(str(tmp_path / "out")).tokenizer
    assert len(tokenizer.tokenize(" indemnitor")) == len(tokenizer.tokenize(" indemnification")) == 1
    assert not json.loads(tokenizer.backend_tokenizer.to_str())["model"].get("ignore_merges")


def test_nothing_is_left_where_it_fails(folder: Path, tmp_path: Path) -> None:
    for texts, settings in (([], {}), (["the"], {}), (LAW, {"terms": ["two words"]})):
        with pytest.raises(RowError):
            extend(str(folder), texts, tmp_path / "out", **settings)
    with pytest.raises(RunError, match="there already"):
        extend(str(folder), LAW, folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_a_tokenizer_that_transformers_builds_anew_is_saved_so_that_it_is_not(
    tmp_path: Path, tiny_model: Callable[..., Any]
) -> None:
    from transformers import AutoTokenizer, Qwen2Tokenizer

    from whet.tokens.train import train_tokenizer

    made = train_tokenizer([*LAW, "a cat sat on the mat"], kind="bpe", vocab_size=270)
    tree = json.loads(made.backend_tokenizer.to_str())["model"]
    qwen = Qwen2Tokenizer(vocab=tree["vocab"], merges=[tuple(merge) for merge in tree["merges"]])
    tiny_model().save_pretrained(tmp_path / "model")
    qwen.save_pretrained(tmp_path / "model")
    done = extend(str(tmp_path / "model"), LAW, tmp_path / "out", add=2)
    again = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert all(len(again.tokenize(token)) == 1 for token in done.tokens)


def test_a_tokenizer_of_whole_words_is_refused(tmp_path: Path, tiny_model: Callable[..., Any]) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    tiny_model().save_pretrained(tmp_path / "model")
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").save_pretrained(tmp_path / "model")
    with pytest.raises(ModelError, match="cannot be extended"):
        extend(str(tmp_path / "model"), LAW, tmp_path / "out")
