"""Answers: the same in a batch as alone, the same streamed as whole, and the model handed back as it came."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from whet.errors import ModelError
from whet.models.attention import NAME
from whet.models.generate import Text, sample, stream

STORIES = Path(__file__).parents[2] / "../shared/models/stories260K"
TEXTS = ["naïve café — 漢字とかな, and 🙂👩‍👩‍👧!", "  two blanks\n\n\ttab ", "السلام عليكم", "", "\ud7ff\ufffd?"]


@pytest.fixture(scope="module")
def model(tiny_model: Callable[..., Any]) -> Any:
    return tiny_model()


@pytest.fixture(scope="module")
def tokenizer(tiny_tokenizer: Callable[[], Any]) -> Any:
    return tiny_tokenizer()


def prompts(count: int) -> list[list[int]]:
    """Prompts of ASCII letters and signs: the 94 tokens after the special ones."""
    draw = random.Random(0)
    return [[draw.randrange(6, 100) for _ in range(draw.randrange(1, 12))] for _ in range(count)]


def alone(model: Any, prompt: list[int], length: int, stop: list[int]) -> list[int]:
    """transformers' own greedy answer to one prompt."""
    stop = stop or [10_000]  # with None, the model's own would count
    config = GenerationConfig(max_new_tokens=length, do_sample=False, eos_token_id=stop, pad_token_id=0)
    out = model.generate(torch.tensor([prompt]), generation_config=config, attention_mask=torch.ones(1, len(prompt)))
    return out[0, len(prompt) :].tolist()  # type: ignore[no-any-return]


def test_greedy_answers_do_not_depend_on_the_batch(model: Any, tokenizer: Any) -> None:
    given = prompts(7)
    expected = [alone(model, prompt, 20, []) for prompt in given]
    assert len({tuple(ids) for ids in expected}) > 3, "the model says different things"
    for batch_size in (1, 3, 16):
        answers = sample(model, tokenizer, given, stop_ids=[], max_new_tokens=20, batch_size=batch_size)
        assert [answer.ids for answer in answers] == expected
        assert not any(answer.stopped for answer in answers)


def test_greedy_answers_of_a_trained_model(tokenizer: Any) -> None:
    if not STORIES.is_dir():
        pytest.skip("needs the stories260K model beside the repository")
    model = AutoModelForCausalLM.from_pretrained(STORIES, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(STORIES)
    given = [tokenizer(text).input_ids for text in ("Once upon a time", "Lily", "The dog was very")]
    answers = sample(model, tokenizer, given, stop_ids=[2], max_new_tokens=40)
    assert [answer.ids for answer in answers] == [alone(model, prompt, 40, [2]) for prompt in given]
    assert answers[0].text.startswith(", there was a little girl named ")
    for prompt, answer in zip(given, answers, strict=True):
        assert tokenizer.decode(prompt[1:]) + answer.text == tokenizer.decode(prompt[1:] + answer.ids)


def test_an_answer_ends_with_its_first_stop_token(model: Any, tokenizer: Any) -> None:
    given = prompts(6)
    free = [alone(model, prompt, 20, []) for prompt in given]
    stop = {free[0][4], free[3][9]}
    answers = sample(model, tokenizer, given, stop_ids=stop, max_new_tokens=20)
    for ids, answer in zip(free, answers, strict=True):
        end = next((place for place, token in enumerate(ids) if token in stop), None)
        assert answer.stopped == (end is not None)
        assert answer.ids == (ids if end is None else ids[: end + 1])
        assert answer.text == tokenizer.decode(ids[:end], skip_special_tokens=True)
    assert {answer.stopped for answer in answers} == {True, False}


def test_the_folders_defaults_do_not_leak_in(tiny_model: Callable[..., Any], tokenizer: Any) -> None:
    model = tiny_model()
    given = prompts(3)
    expected = [alone(model, prompt, 12, []) for prompt in given]
    drawn = sample(model, tokenizer, given, stop_ids=[], max_new_tokens=12, temperature=1.0, seed=3)
    leaking = GenerationConfig(
        do_sample=True, temperature=9.0, top_k=2, repetition_penalty=5.0, min_new_tokens=5, suppress_tokens=[7],
        eos_token_id=expected[0][2], max_length=3, num_beams=3,
    )  # fmt: skip
    model.generation_config = leaking
    assert [a.ids for a in sample(model, tokenizer, given, stop_ids=[], max_new_tokens=12)] == expected
    assert sample(model, tokenizer, given, stop_ids=[], max_new_tokens=12, temperature=1.0, seed=3) == drawn
    assert model.generation_config is leaking


def test_drawn_answers_follow_the_seed(model: Any, tokenizer: Any) -> None:
    def draw(**settings: Any) -> list[list[int]]:
        answers = sample(model, tokenizer, prompts(4), stop_ids=[], max_new_tokens=12, **settings)
        return [answer.ids for answer in answers]

    assert draw(temperature=1.0, seed=1) == draw(temperature=1.0, seed=1) != draw(temperature=1.0, seed=2)
    greedy = draw()
    assert draw(temperature=1.0, top_k=1) == greedy
    assert draw(temperature=1.0, top_p=1e-6) == greedy
    assert draw(temperature=1e-4) == greedy


def test_without_limits_every_token_can_be_drawn(tiny_model: Callable[..., Any], tokenizer: Any) -> None:
    """generate's own default is top_k=50; nearly equal logits must reach far more tokens."""
    model = tiny_model(initializer_range=1e-4)
    answers = sample(model, tokenizer, [[9]] * 16, stop_ids=[], max_new_tokens=60, temperature=1.0)
    assert len({token for answer in answers for token in answer.ids}) > 200


def test_the_model_comes_back_as_it_was(tiny_model: Callable[..., Any], tokenizer: Any) -> None:
    model = tiny_model()
    model.train()
    model.model.layers[1].eval()
    model.config._attn_implementation = NAME  # what the engine sets around a pack
    model.config.use_cache = False
    expected = [alone(tiny_model(), prompt, 8, []) for prompt in prompts(3)]
    torch.manual_seed(5)
    numbers = torch.rand(3)
    torch.manual_seed(5)
    answers = sample(model, tokenizer, prompts(3), stop_ids=[], max_new_tokens=8)
    streamed = "".join(stream(model, tokenizer, prompts(1)[0], stop_ids=[], max_new_tokens=8, temperature=1.0))
    assert [answer.ids for answer in answers] == expected
    assert streamed
    assert torch.equal(torch.rand(3), numbers), "no random number of the caller is used up"
    assert model.config._attn_implementation == NAME
    assert model.config.use_cache is False
    assert model.training
    assert model.model.layers[0].mlp.training
    assert not model.model.layers[1].mlp.training
    model.config._attn_implementation = "sdpa"
    model(torch.tensor([[9, 10]])).logits.sum().backward()


def test_an_answer_gets_the_room_that_the_prompt_leaves(model: Any, tokenizer: Any) -> None:
    long = [9] * 120  # of 128 positions
    short, rest = sample(model, tokenizer, [[9, 10], long], stop_ids=[], max_new_tokens=20)
    assert (len(short.ids), len(rest.ids)) == (20, 8)
    assert short.ids == alone(model, [9, 10], 20, [])
    with pytest.raises(ModelError, match="has 128 tokens and the model takes 128"):
        sample(model, tokenizer, [[9] * 128], stop_ids=[])
    with pytest.raises(ModelError, match="the prompt is empty"):
        list(stream(model, tokenizer, [], stop_ids=[]))


def test_learnt_positions_end_where_they_end(tokenizer: Any) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=288, n_positions=16, n_embd=32, n_layer=1, n_head=2)).eval()
    answers = sample(model, tokenizer, [[9], [9] * 12], stop_ids=[], max_new_tokens=64)
    assert [len(answer.ids) for answer in answers] == [15, 4]


def test_streamed_and_whole_answers_are_the_same_text(model: Any, tokenizer: Any) -> None:
    for number, prompt in enumerate(prompts(4)):
        settings = {"stop_ids": [1, 2], "max_new_tokens": 30, "temperature": 1.0, "seed": 7 + number}
        whole = sample(model, tokenizer, [prompt], **settings)[0]
        pieces = list(stream(model, tokenizer, prompt, **settings))
        assert "".join(pieces) == whole.text
        assert len(pieces) > 3
        assert whole.text == tokenizer.decode(
            [token for token in whole.ids if token not in (1, 2)], skip_special_tokens=True
        )


@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_in_whole_characters(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False).input_ids
    told = Text(tokenizer, tokenizer("the cat 漢").input_ids)
    pieces = [told.add(token) for token in ids]
    assert "".join(pieces) + told.rest() == text
    if "\ufffd" not in text:
        assert "\ufffd" not in "".join(pieces)


def test_the_blank_before_an_answer_is_kept() -> None:
    """A Metaspace tokenizer drops the first blank of what it decodes; an answer is not the first."""
    if not STORIES.is_dir():
        pytest.skip("needs the stories260K tokenizer beside the repository")
    tokenizer = AutoTokenizer.from_pretrained(STORIES)
    ids = tokenizer("Once upon a time there was a girl. She sang: 漢字!", add_special_tokens=False).input_ids
    for cut in range(1, len(ids)):
        told = Text(tokenizer, ids[:cut])
        text = "".join(told.add(token) for token in ids[cut:]) + told.rest()
        assert tokenizer.decode(ids[:cut]).rstrip("\ufffd") in tokenizer.decode(ids)
        if not tokenizer.decode(ids[:cut]).endswith("\ufffd"):
            assert tokenizer.decode(ids[:cut]) + text == tokenizer.decode(ids)


def test_leaving_a_stream_stops_the_model(tiny_model: Callable[..., Any], tokenizer: Any) -> None:
    model = tiny_model(max_position_embeddings=4096)
    before = threading.active_count()
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    pieces = stream(model, tokenizer, [9], stop_ids=[], max_new_tokens=4000, temperature=1.0)
    next(pieces)
    pieces.close()
    assert threading.active_count() == before
    assert 0 < len(calls) < 3000


def test_what_breaks_in_the_model_reaches_the_reader(tiny_model: Callable[..., Any], tokenizer: Any) -> None:
    model = tiny_model()
    with pytest.raises(IndexError):
        list(stream(model, tokenizer, [9, 5000], stop_ids=[]))
    assert not model.training


def test_adapters_answer_as_the_merged_model_does(tiny_model: Callable[..., Any], tokenizer: Any) -> None:
    from peft import LoraConfig, get_peft_model

    def adapted() -> Any:
        torch.manual_seed(1)
        config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
        return get_peft_model(tiny_model(), config).eval()

    given = prompts(4)
    base = [answer.ids for answer in sample(tiny_model(), tokenizer, given, stop_ids=[], max_new_tokens=10)]
    merged = adapted().merge_and_unload()
    model = adapted()
    answers = [answer.ids for answer in sample(model, tokenizer, given, stop_ids=[], max_new_tokens=10)]
    assert answers == [alone(merged, prompt, 10, []) for prompt in given] != base
    with model.disable_adapter():
        assert [a.ids for a in sample(model, tokenizer, given, stop_ids=[], max_new_tokens=10)] == base
    text = "".join(stream(model, tokenizer, given[0], stop_ids=[], max_new_tokens=10))
    assert text == tokenizer.decode(answers[0], skip_special_tokens=True)
