"""Perplexity and choices against plain transformers in float64, one row at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from whet.errors import ModelError, RowError
from whet.evaluate.choice import Question, answer
from whet.evaluate.encode import continuations
from whet.evaluate.perplexity import score_rows, total, windows
from whet.evaluate.score import Scorer
from whet.rows import Row


def plain_logps(model, ids):
    """log p of each token after the first, float64, by the model's own forward on this row alone."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0].double()
    return logits[:-1].log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0].numpy()


@pytest.fixture(scope="module")
def model(make_model):
    return make_model("llama").double().eval()


@pytest.fixture(scope="module")
def scorer(model):
    return Scorer(model, 97, pack_tokens=128)


def test_perplexity_is_that_of_a_plain_loop(model, scorer, make_rows):
    rows = make_rows()
    scored = score_rows(scorer, rows, [7] * len(rows))
    for row, found in zip(rows, scored, strict=True):
        expected = plain_logps(model, row.ids.tolist())[row.targets[1:]].sum()
        assert found.nats == pytest.approx(expected, rel=1e-6)
        assert found.targets == row.targets[1:].sum()
        assert found.bits_per_byte == pytest.approx(-expected / math.log(2) / 7)
        assert found.perplexity == pytest.approx(math.exp(-expected / row.targets[1:].sum()), rel=1e-5)
    nats = sum(plain_logps(model, row.ids.tolist())[row.targets[1:]].sum() for row in rows)
    figures = total(scored)
    assert figures["perplexity"] == pytest.approx(math.exp(-nats / sum(r.target_count for r in rows)), rel=1e-6)


@pytest.mark.parametrize("stride", [None, 1, 50, 255])
def test_long_rows_by_sliding_window(model, scorer, stride):
    ids = np.random.default_rng(0).integers(3, 97, 700, dtype=np.int32)
    row = Row(ids, np.arange(700) >= 20)
    step, expected, scored = stride or 128, 0.0, 1
    if stride == 1:  # as many windows as tokens: a shorter row will do
        ids, row = ids[:280], Row(ids[:280], np.arange(280) >= 20)
    for begin in range(0, len(ids), step):
        end = min(begin + 256, len(ids))
        logps = plain_logps(model, ids[begin:end].tolist())
        places = np.arange(begin + 1, end)
        expected += logps[(places >= max(scored, 20)) & (places < end)].sum()
        scored = end
        if end == len(ids):
            break
    [found] = score_rows(scorer, [row], [1], stride)
    assert found.nats == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("stride", [None, 3, 9])
def test_windows_score_each_target_once(stride):
    row = Row(np.arange(95, dtype=np.int32), np.arange(95) >= 4)
    pieces = windows(row, 10, stride)
    seen = [int(token) for piece in pieces for token in piece.ids[piece.targets]]
    assert sorted(seen) == list(range(4, 95))
    assert all(len(piece) <= 10 and not piece.targets[0] for piece in pieces)


def test_a_row_too_long_is_named_not_cut(scorer):
    row = Row(np.full(258, 5, dtype=np.int32), np.arange(258) > 0, place="rows.jsonl:4")
    with pytest.raises(ModelError, match=r"rows\.jsonl:4: the row has 258 tokens, and the model takes 256"):
        scorer.logps([row])
    [last] = scorer.logps([Row(row.ids[:257], np.arange(257) > 255)])  # nothing is predicted from the last token
    cut = scorer.cut(row)
    assert (len(cut), cut.target_count) == (257, 256)
    assert scorer.logps([cut])[0][-1] == pytest.approx(last[-1], rel=1e-5)


def test_nan_is_named(make_model):
    model = make_model("llama")
    scorer = Scorer(model, 97)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match=r"a\.txt:1: the model gives no numbers"):
        scorer.logps([Row(np.array([3, 4, 5], dtype=np.int32), np.array([False, True, True]), place="a.txt:1")])


PREAMBLE = "the cat sat on the mat\n\nthe dog ran home\n\n"
QUESTIONS = [
    Question(PREAMBLE + "where is the cat?\nAnswer:", ("the mat", "home", "a rug by the door"), 0, "q:1"),
    Question(PREAMBLE + "where is the dog? ", ("home", "the mat"), 1, "q:2", delimiter=""),
    Question("", ("the cat", "the dog"), 0, "q:3", delimiter=""),
]


@pytest.fixture
def answering(model_folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder).double().eval()
    return model, tokenizer, Scorer(model, len(tokenizer))


def slow(model, tokenizer, context, option):
    """One option after one context, as lm-eval has it: blanks go to the option, all is tokenised together."""
    kept = context.rstrip()
    option = context[len(kept) :] + option
    ids = tokenizer(kept + option)["input_ids"]
    start = len(tokenizer(kept)["input_ids"]) if kept else 0
    if not kept:
        begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        ids, start = ([begin, *ids] if ids[:1] != [begin] else ids), 1
    return plain_logps(model, ids)[start - 1 :].sum()


def test_choices_are_those_of_a_plain_loop(answering):
    model, tokenizer, scorer = answering
    found = answer(scorer, tokenizer, QUESTIONS, ("sum", "mean", "unconditional"))
    for question, answered in zip(QUESTIONS, found, strict=True):
        sums = np.array(
            [slow(model, tokenizer, question.context, question.delimiter + option) for option in question.options]
        )
        alone = np.array(
            [slow(model, tokenizer, question.neutral, question.delimiter + option) for option in question.options]
        )
        lengths = np.array([len(option) for option in question.options])
        np.testing.assert_allclose(answered.logps["sum"], sums, rtol=1e-6)
        np.testing.assert_allclose(answered.logps["mean"], sums / lengths, rtol=1e-6)
        np.testing.assert_allclose(answered.logps["unconditional"], sums - alone, atol=1e-6)
        assert answered.chosen("sum") == int(sums.argmax())
        np.testing.assert_allclose(answered.probabilities(), np.exp(sums) / np.exp(sums).sum(), rtol=1e-5)


def test_ids_behind_a_preamble_are_those_of_the_whole_text(answering):
    _, tokenizer, _ = answering
    pairs = [(q.context, q.goes_on(n), q.place) for q in QUESTIONS[:2] for n in range(len(q.options))]
    for (context, option, _), row in zip(pairs, continuations(tokenizer, pairs), strict=True):
        assert row.ids.tolist() == tokenizer(context + option)["input_ids"]


def test_questions_that_cannot_be(answering):
    _, tokenizer, scorer = answering
    with pytest.raises(RowError, match=r"q:7: a question needs options"):
        answer(scorer, tokenizer, [Question("a", ("b", ""), 0, "q:7")])
    with pytest.raises(RowError, match="answer 2 of 2 options"):
        answer(scorer, tokenizer, [Question("a", ("b", "c"), 2)])
