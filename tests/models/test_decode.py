"""Answers on the trie: the tokens of transformers' `generate` row by row, and each shared token computed once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GenerationConfig
from transformers.generation import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

import whet
from whet.errors import ModelError
from whet.methods import METHODS, Given
from whet.models import decode
from whet.models.draw import Draw
from whet.models.generate import sample
from whet.models.load import load
from whet.models.probe import takes_tries
from whet.recipe import check_recipe

PACKAGE = Path(whet.__file__).parent


@pytest.fixture(scope="module")
def tokenizer(tiny_tokenizer: Callable[[], Any]) -> Any:
    return tiny_tokenizer()


def prompts() -> list[list[int]]:
    """Prefixes shared at two depths, a prompt that others go on from, one there three times, and some alone."""
    draw = np.random.default_rng(0)
    ids = lambda size: draw.integers(3, 97, size).tolist()  # noqa: E731
    stem, branch = ids(20), ids(18)
    rows = [ids(9), stem + ids(5), stem + branch + ids(3), stem + branch + ids(30), stem + branch, ids(2)]
    return [*rows, stem + ids(17), rows[3], rows[3], stem + branch + ids(25), ids(40)]


def alone(model: Any, prompt: list[int], length: int, stop: list[int] | None = None) -> list[int]:
    """transformers' own greedy answer to one prompt."""
    config = GenerationConfig(
        max_new_tokens=length, do_sample=False, eos_token_id=stop or [10_000], pad_token_id=0, use_cache=True
    )
    out = model.generate(torch.tensor([prompt]), generation_config=config, attention_mask=torch.ones(1, len(prompt)))
    return out[0, len(prompt) :].tolist()  # type: ignore[no-any-return]


def answered(model: Any, tokenizer: Any, given: list[list[int]], length: int = 12, **settings: Any) -> list[list[int]]:
    found = sample(model, tokenizer, given, **({"stop_ids": [], "max_new_tokens": length} | settings))
    return [one.ids for one in found]


@pytest.mark.parametrize(
    ("architecture", "on_trie"),
    [("llama", True), ("qwen3", True), ("gpt2", True), ("mistral", True), ("gemma2", True), ("gemma3_text", True),
     ("gpt_neox", True), ("cohere", True), ("granite", True), ("phi", True),
     ("falcon", False), ("bloom", False), ("gpt_oss", False)],
)  # fmt: skip
def test_tokens_are_those_of_generate(make_model: Any, tokenizer: Any, architecture: str, on_trie: bool) -> None:
    """mistral and the gemmas have windows shorter than the rows."""
    model = make_model(architecture).eval()
    assert takes_tries(model) == on_trie
    expected = [alone(model, prompt, 12) for prompt in prompts()]
    assert len({tuple(ids) for ids in expected}) > 6, "the model says different things"
    for batch_size in (1, 3, 64):
        assert answered(model, tokenizer, prompts(), batch_size=batch_size) == expected


def test_rows_that_stop_make_way_for_others(make_model: Any, tokenizer: Any) -> None:
    model = make_model("llama").eval()
    free = [alone(model, prompt, 30) for prompt in prompts()]
    stop = [free[0][3], free[2][7], free[5][1]]
    expected = [alone(model, prompt, 30, stop) for prompt in prompts()]
    assert len({len(ids) for ids in expected}) > 3, "answers of different lengths"
    for batch_size in (2, 5):
        assert answered(model, tokenizer, prompts(), 30, stop_ids=stop, batch_size=batch_size) == expected


def test_each_token_is_computed_once(make_model: Any, tokenizer: Any) -> None:
    model = make_model("llama").eval()
    takes_tries(model)
    shapes: list[int] = []
    model.model.embed_tokens.register_forward_hook(lambda _, inputs, out: shapes.append(out.shape[1]))
    found = answered(model, tokenizer, prompts(), batch_size=4)
    trie = 9 + 20 + 5 + 18 + 3 + 30 + 2 + 17 + 25 + 40
    assert sum(shapes) == trie + sum(len(ids) - 1 for ids in found)
    steps = len(shapes) - sum(size > 4 for size in shapes)
    assert steps >= 11 * 3, "11 rows, 4 at once"


def test_what_no_row_sees_any_more_is_forgotten(make_model: Any) -> None:
    model = make_model("llama").eval()
    decoder = decode.Decoder(model, prompts(), [5] * 11, Draw())
    most = max(len(decoder.cache.shared) for _ in decoder.tokens(frozenset(), 2))
    assert most >= 2
    assert not decoder.cache.shared
    assert not decoder.ends


def test_prompts_are_added_and_rows_dropped_between_steps(make_model: Any) -> None:
    model = make_model("llama").eval()
    expected = [alone(model, prompt, 12) for prompt in prompts()]
    decoder = decode.Decoder(model, prompts()[:4], [12] * 4, Draw())
    said: dict[int, list[int]] = {}
    with decoder.running():
        for step in range(200):
            if step in (2, 3, 9):
                first = {2: 4, 3: 6, 9: 9}[step]
                more = prompts()[first : {4: 6, 6: 9, 9: 11}[first]]
                assert decoder.add(more, [12] * len(more)) == range(first, first + len(more))
            if step == 6:
                assert {row.index for row in decoder.flight} & {1, 3}, "one in flight"
                assert decoder.waiting, "and one that waits"
                dropped = {1, 3, decoder.waiting[-1]}
                decoder.drop(dropped)
            for row, token, _ in decoder.step(frozenset(), 3):
                said.setdefault(row, []).append(token)
    assert {row: said[row] for row in range(11) if row not in dropped} == {
        row: expected[row] for row in range(11) if row not in dropped
    }
    assert all(len(said.get(row, [])) < 12 for row in dropped)
    held = (decoder.segments, decoder.rooms, decoder.end_of, decoder.ends, decoder.cache.shared)
    assert not any(held), "nothing of them is kept"


def test_slots_of_many_short_rows_are_not_kept_for_a_long_one(make_model: Any) -> None:
    model = make_model("llama", max_position_embeddings=4096).eval()
    short = [[5, 6, number] for number in range(3, 43)]
    decoder = decode.Decoder(model, short, [60] + [3] * 39, Draw())

    def slots() -> tuple[int, int]:
        return decoder.cache.keys[0].shape[0], decoder.cache.keys[0].shape[2]

    with decoder.running():
        decoder.step(frozenset(), 40)
        assert slots()[0] == 40
        while len(decoder.flight) > 1:
            decoder.step(frozenset(), 40)
        decoder.add([[7] * 1000], [3])
        decoder.step(frozenset(), 40)
        assert slots()[0] == 2
        assert slots()[1] >= 1000
        while len(decoder.flight) > 1:
            decoder.step(frozenset(), 40)
        decoder.add(short, [3] * 40)
        decoder.step(frozenset(), 41)
        assert slots()[0] == 41
        assert slots()[1] < 1000
        while decoder.flight:
            decoder.step(frozenset(), 41)
    assert not decoder.cache.keys, "nobody is left"


def stepped(decoder: decode.Decoder, said: dict[int, list[int]], steps: int = 1000) -> None:
    for _ in range(steps):
        for row, token, _ in decoder.step(frozenset(), 4):
            said.setdefault(row, []).append(token)
        if not (decoder.flight or decoder.waiting):
            return


def test_beginnings_are_kept_for_prompts_to_come(make_model: Any) -> None:
    """The first two that share one compute it; the third and all after it do not."""
    model = make_model("llama").eval()
    takes_tries(model)
    shapes: list[int] = []
    model.model.embed_tokens.register_forward_hook(lambda _, inputs, out: shapes.append(out.shape[1]))
    draw = np.random.default_rng(1)
    stem, branch = draw.integers(3, 97, 50).tolist(), draw.integers(3, 97, 40).tolist()
    tails = [draw.integers(3, 97, 5).tolist() for _ in range(6)]
    given = [stem + tails[0], stem + tails[1], stem + tails[2], stem + branch + tails[3], stem + branch + tails[4]]
    given += [stem + branch + tails[5], stem + tails[0], stem]
    decoder, said, computed = decode.Decoder(model, [], [], Draw(), keep=1000), dict[int, list[int]](), []
    with decoder.running():
        for prompt in given:
            decoder.add([prompt], [4])
            before = len(shapes)
            stepped(decoder, said)
            computed.append(shapes[before])
    assert computed == [55, 55, 5, 45, 45, 5, 5, 50]
    assert [said[row] for row in range(len(given))] == [alone(model, prompt, 4) for prompt in given]
    assert sum(len(ids) for _, ids in decoder.prefixes.held.values()) == 50 + 40 + 49, "the last but its end"
    assert decoder.cache.shared.keys() == decoder.segments.keys() == decoder.prefixes.held.keys()


@pytest.mark.parametrize("method", [None, "prefix", "prompt"])
@pytest.mark.parametrize("keep", [60, 10_000])
def test_answers_do_not_hang_on_what_is_kept(make_model: Any, method: str | None, keep: int) -> None:
    """Prompts come in any order, many at once or one, some are dropped; little or much is kept of them."""
    model = make_model("llama").eval()
    if method is not None:
        tree = {"model": "llama", "data": "a.jsonl", "method": {"kind": method, "num_virtual_tokens": 3}}
        model = METHODS[method].apply(model, check_recipe(tree, "test").method, Given())
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.normal_(std=0.3)
        model.eval()
    draw = np.random.default_rng(2)
    ids = lambda size: draw.integers(3, 97, size).tolist()  # noqa: E731
    stems = [ids(40), ids(35)]
    stems += [stems[0] + ids(36), stems[0] + ids(33)]
    given = [stems[draw.integers(4)] + ids(draw.integers(0, 9)) for _ in range(60)]
    decoder, said, dropped = decode.Decoder(model, [], [], Draw(), keep=keep), dict[int, list[int]](), set[int]()
    with decoder.running():
        begin = 0
        while begin < len(given):
            more = given[begin : begin + int(draw.integers(1, 5))]
            decoder.add(more, [4] * len(more))
            begin += len(more)
            stepped(decoder, said, int(draw.integers(1, 9)))
            if decoder.waiting and draw.random() < 0.3:
                dropped.add(decoder.waiting[-1])
                decoder.drop({decoder.waiting[-1]})
        stepped(decoder, said)
    plain = decode.Decoder(model, given, [4] * len(given), Draw())
    expected: dict[int, list[int]] = {}
    with plain.running():
        stepped(plain, expected)
    assert dropped
    assert said == {row: expected[row] for row in range(len(given)) if row not in dropped}
    assert sum(len(ids) for _, ids in decoder.prefixes.held.values()) <= keep
    assert decoder.prefixes.held
    assert decoder.segments.keys() == decoder.prefixes.held.keys()


def test_fewer_rows_where_memory_is_short(make_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model("llama").eval()
    token = 2 * 2 * 2 * 8 * 4  # keys and values, layers, heads, width, bytes
    assert decode.rows_at_once(model, 100, 64) == 64
    monkeypatch.setattr(decode, "CACHE_BYTES", 2 * token * (40 + 12))  # the longest prompt that shares nothing
    assert decode.rows_at_once(model, 40 + 12, 64) == 2
    shapes: list[int] = []
    expected = [alone(model, prompt, 12) for prompt in prompts()]
    takes_tries(model)
    model.model.embed_tokens.register_forward_hook(lambda _, inputs, out: shapes.append(out.shape[1]))
    assert answered(model, tokenizer, prompts()) == expected
    assert len(shapes) >= 11 * 6, "two at once"


def test_whet_tiny_answers_as_by_generate() -> None:
    loaded = load(str(PACKAGE / "models" / "whet-tiny"), torch.float32, "cpu")
    lines = (PACKAGE / "data" / "quickstart" / "rows.jsonl").read_text().splitlines()
    turns = [json.loads(line)["messages"][-2:] for line in lines[:6]]
    preamble = f"{turns[0][0]['content']}\n{turns[0][1]['content']}\n\n"
    given = [loaded.tokenizer(preamble + asked["content"]).input_ids for asked, _ in turns[1:]]
    expected = [alone(loaded.model.eval(), prompt, 10) for prompt in given]
    assert answered(loaded.model, loaded.tokenizer, given, 10) == expected


def test_frequencies_that_change_with_length_go_by_generate(make_model: Any) -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    assert not takes_tries(make_model("llama", rope_parameters=rope).eval())


@pytest.mark.parametrize("architecture", ["llama", "falcon"])
def test_a_row_draws_the_same_whatever_is_beside_it(make_model: Any, tokenizer: Any, architecture: str) -> None:
    model = make_model(architecture).eval()
    drawing = {"temperature": 0.8, "top_p": 0.9, "top_k": 20, "seed": 5}
    expected = answered(model, tokenizer, prompts(), **drawing)
    assert len({tuple(expected[row]) for row in (3, 7, 8)}) == 3, "one prompt, three draws"
    for batch_size in (1, 4):
        assert answered(model, tokenizer, prompts(), batch_size=batch_size, **drawing) == expected
    assert answered(model, tokenizer, prompts()[4:], first=4, **drawing) == expected[4:]
    assert answered(model, tokenizer, prompts(), **(drawing | {"seed": 6})) != expected


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.5, 0, 0.7), (2.0, 5, 1.0), (0.7, 12, 0.85), (1.0, 500, 0.01)]
)
def test_what_is_drawn_from_is_what_transformers_draws_from(temperature: float, top_k: int, top_p: float) -> None:
    logits = torch.randn(6, 97, generator=torch.Generator().manual_seed(0)) * 3
    expected = TemperatureLogitsWarper(temperature)(None, logits)
    expected = TopKLogitsWarper(top_k)(None, expected) if top_k else expected
    expected = TopPLogitsWarper(top_p)(None, expected).softmax(-1)
    torch.testing.assert_close(Draw(temperature, top_p, top_k).probabilities(logits), expected)


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0, -2.0]]).repeat(20_000, 1)
    tokens = Draw(temperature=1.0, top_k=4)(logits, range(20_000))
    expected = torch.tensor([2.0, 1.0, 0.0, -1.0]).softmax(0)
    found = torch.bincount(torch.tensor(tokens), minlength=5) / 20_000
    assert found[4] == 0
    torch.testing.assert_close(found[:4], expected, atol=0.012, rtol=0)  # 3.4 standard errors of the likeliest


@pytest.mark.parametrize("architecture", ["llama", "falcon"])
def test_a_row_without_numbers_is_named(make_model: Any, tokenizer: Any, architecture: str) -> None:
    model = make_model(architecture).eval()
    takes_tries(model)
    with torch.no_grad():
        model.get_input_embeddings().weight[96] = float("nan")
        if model.config.tie_word_embeddings:
            model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    given = [[5, 6], [7, 96, 8], [9, 10]]
    with pytest.raises(ModelError, match=r"rows\.jsonl:2: the model gives no numbers"):
        answered(model, tokenizer, given, places=[f"rows.jsonl:{n}" for n in (1, 2, 3)])


def test_prompts_that_are_too_long_are_named_and_counted(make_model: Any, tokenizer: Any) -> None:
    model = make_model("llama").eval()  # 256 positions
    given = [[5] * 10, [5] * 256, [5] * 20, [5] * 300]
    with pytest.raises(ModelError, match=r"prompt 2: the prompt has 256 .* 256 .*\(2 of 4 prompts are like this"):
        answered(model, tokenizer, given)
    with pytest.raises(ModelError, match=r"b:3: the prompt is empty"):
        answered(model, tokenizer, [[5], [6], []], places=["b:1", "b:2", "b:3"])
    assert answered(model, tokenizer, []) == []


def test_a_row_that_ends_with_its_first_token_leaves_others_that_share_all_of_their_prompts(
    make_model, tokenizer: Any
) -> None:
    """No row has tokens of its own yet, so there is nothing to move to another slot."""
    model, draw = make_model("llama").eval(), np.random.default_rng(1)
    first, second = (draw.integers(3, 97, 20).tolist() for _ in range(2))
    stop = alone(model, first, 1)
    expected = {tuple(given): alone(model, given, 8, stop) for given in (first, second)}
    assert (len(expected[tuple(first)]), len(expected[tuple(second)])) == (1, 8)
    given = [first, second, second, first, second]
    assert answered(model, tokenizer, given, 8, stop_ids=stop) == [expected[tuple(one)] for one in given]
