"""Chat by the `openai` client: the answers that the model gives when it is asked without a server."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import openai
import pytest
import torch

from whet.evaluate.score import Scorer
from whet.models import decode
from whet.rows import Row

NAMES = ["tiny", "law", "med", "falcon"]
SPECIAL = ["<s>", "</s>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
GREEDY = {"temperature": 0, "max_tokens": 24}


def asked(text: str) -> list[Any]:
    return [{"role": "system", "content": "the cat sat on the mat and went home"}, {"role": "user", "content": text}]


def chat(server: Any, name: str, text: str, **settings: Any) -> Any:
    return server.client.chat.completions.create(model=name, messages=asked(text), **{**GREEDY, **settings})


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_is_the_models_own(server: Any, alone: Any, name: str) -> None:
    for text in ("where is the dog?", "the rug lay"):
        [expected] = alone[name].answers(asked(text), max_new_tokens=24)
        found = chat(server, name, text)
        assert found.choices[0].message.content == expected.text
        assert found.choices[0].message.role == "assistant"
        assert found.choices[0].finish_reason == ("stop" if expected.stopped else "length")
        assert found.usage.prompt_tokens == len(alone[name].prompt(asked(text)))
        assert found.usage.completion_tokens == len(expected.ids)
        assert found.model == name


def test_the_models_differ(alone: Any) -> None:
    said = {alone[name].answers(asked("where is the dog?"), max_new_tokens=24)[0].text for name in NAMES}
    assert len(said) == len(NAMES)


@pytest.mark.parametrize("name", ["law", "falcon"])
def test_a_stream_is_the_answer_in_pieces(server: Any, name: str) -> None:
    whole = chat(server, name, "the dog")
    chunks = list(chat(server, name, "the dog", stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert len(chunks) > 5
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["length"]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1


@pytest.mark.parametrize("name", NAMES)
def test_logprobs_are_those_of_training(server: Any, alone: Any, name: str) -> None:
    """The scores of the rows that training would make of prompt and answer."""
    found = chat(server, name, "where did they go?", logprobs=True, top_logprobs=3).choices[0]
    prompt = alone[name].prompt(asked("where did they go?"))
    [answer] = alone[name].answers(asked("where did they go?"), max_new_tokens=24)
    ids = np.array([*prompt, *answer.ids], np.int32)
    scorer = Scorer.of(alone[name].loaded)
    [expected] = scorer.logps([Row(ids, np.arange(len(ids)) >= len(prompt))])
    content = found.logprobs.content
    assert len(content) == len(answer.ids) - answer.stopped
    np.testing.assert_allclose([one.logprob for one in content], expected[: len(content)], atol=1e-4)
    spelled = [bytes(one.bytes) for one in content if one.token not in SPECIAL]  # those have no text in an answer
    assert b"".join(spelled).decode(errors="replace") == found.message.content
    for one in content:
        assert len(one.top_logprobs) == 3
        assert one.top_logprobs[0].logprob == one.logprob, "greedy: the likeliest was chosen"
        assert one.top_logprobs[0].bytes == one.bytes


def test_logprobs_of_a_whole_row_of_training(server: Any, alone: Any) -> None:
    """A conversation rendered as training renders it, scored by `echo`."""
    turns = [*asked("where is the wren?"), {"role": "assistant", "content": "the wren sat on the mat"}]
    [row] = alone["law"].renderer.conversation(turns)
    [expected] = Scorer.of(alone["law"].loaded).logps([Row(row.ids, row.targets)])
    found = server.client.completions.create(model="law", prompt=row.ids.tolist(), echo=True, logprobs=0, max_tokens=0)
    logps = np.array(found.choices[0].logprobs.token_logprobs[1:])
    np.testing.assert_allclose(logps[row.targets[1:]], expected, atol=1e-4)


@pytest.mark.parametrize("name", ["med", "falcon"])
def test_several_answers_draw_what_whet_generate_draws(server: Any, alone: Any, name: str) -> None:
    expected = alone[name].answers(asked("the mat"), 3, max_new_tokens=20, temperature=0.9, top_p=0.95, seed=7)
    settings = {"n": 3, "temperature": 0.9, "top_p": 0.95, "seed": 7, "max_tokens": 20}
    found = chat(server, name, "the mat", **settings)
    assert [choice.message.content for choice in found.choices] == [one.text for one in expected]
    assert len({choice.message.content for choice in found.choices}) == 3
    assert [choice.index for choice in found.choices] == [0, 1, 2]
    streamed = ["", "", ""]
    for chunk in chat(server, name, "the mat", stream=True, **settings):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert streamed == [one.text for one in expected]
    assert chat(server, name, "the mat", **(settings | {"seed": 8})) != found


@pytest.mark.parametrize("name", ["tiny", "falcon"])
def test_stop_strings_end_an_answer_also_within_and_across_tokens(server: Any, alone: Any, name: str) -> None:
    [free] = alone[name].answers(asked("home"), max_new_tokens=24)
    pieces = [alone[name].tokenizer.decode([id]) for id in free.ids]
    assert sum(len(piece) for piece in pieces) > len(pieces)
    for begin in range(3, 12):
        stop = free.text[begin : begin + 4]
        place = free.text.index(stop)
        found = chat(server, name, "home", stop=["never there", stop], logprobs=True)
        assert found.choices[0].message.content == free.text[:place]
        assert found.choices[0].finish_reason == "stop"
        chunks = list(chat(server, name, "home", stop=stop, stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == free.text[:place]
    server.until(lambda server: server.flight == 0)


def test_penalties_and_biases_by_a_slow_version(server: Any, alone: Any) -> None:
    model, tokenizer = alone["tiny"].model, alone["tiny"].tokenizer
    prompt = alone["tiny"].prompt(asked("on"))
    bias = {"40": 3.0, "41": -100.0}
    ids: list[int] = []
    for _ in range(20):
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *ids]])).logits[0, -1]
        for token in set(ids):
            logits[token] -= 1.5 + 0.7 * ids.count(token)
        for token, value in bias.items():
            logits[int(token)] += value
        ids.append(int(logits.argmax()))
        if ids[-1] in alone["tiny"].renderer.stop_ids:
            break
    settings = {"presence_penalty": 1.5, "frequency_penalty": 0.7, "logit_bias": bias, "max_tokens": 20}
    found = chat(server, "tiny", "on", **settings).choices[0].message.content
    assert found == tokenizer.decode(ids, skip_special_tokens=True)
    assert found != chat(server, "tiny", "on", max_tokens=20).choices[0].message.content


def test_50_streams_at_once_each_get_the_answer_of_being_asked_alone(server: Any, alone: Any) -> None:
    """Three names on one model in memory, prompts of different lengths."""
    texts = [f"number {n}: " + "the dog lay on the rug; " * (n % 5) for n in range(50)]
    names = [NAMES[n % 3] for n in range(50)]
    expected = [
        alone[name].answers(asked(text), max_new_tokens=20 + n)[0].text
        for n, (name, text) in enumerate(zip(names, texts, strict=True))
    ]

    async def one(client: openai.AsyncOpenAI, n: int) -> str:
        stream = await client.chat.completions.create(
            model=names[n], messages=asked(texts[n]), temperature=0, max_tokens=20 + n, stream=True
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def everyone() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            return await asyncio.gather(*(one(client, n) for n in range(50)))

    assert asyncio.run(everyone()) == expected
    assert server.flight == server.waiting == 0


def test_rows_that_outgrow_the_cache_wait_and_go_on(serve: Any, alone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve()
    token = 2 * 2 * 2 * 8 * 4  # keys and values, layers, heads, width, bytes
    monkeypatch.setattr(decode, "CACHE_BYTES", token * 1000)
    put_back = []
    turn = server.shelf.find("tiny").scheduler.turns["tiny"]
    add = turn._add
    monkeypatch.setattr(turn, "_add", lambda *args: (put_back.append(sum(len(c.ids) for c in args[2])), add(*args)))
    settings = {"max_tokens": 300, "logit_bias": {str(id): -100 for id in alone["tiny"].renderer.stop_ids}, "n": 4}
    found = chat(server, "tiny", "home", temperature=0.8, seed=3, **settings)
    assert any(put_back), "rows went back with what they had"
    monkeypatch.undo()
    expected = chat(server, "tiny", "home", temperature=0.8, seed=3, **settings)
    assert [one.message.content for one in found.choices] == [one.message.content for one in expected.choices]


def test_a_client_that_leaves_stops_its_answer(server: Any, alone: Any) -> None:
    for name in ("tiny", "falcon"):
        before = generated(server, name)
        never = {str(id): -100 for id in alone[name].renderer.stop_ids}
        stream = chat(server, name, "home", stream=True, max_tokens=1900, logit_bias=never)
        for _ in range(5):
            next(stream)
        stream.close()
        server.until(lambda server: server.flight == 0)
        server.until(lambda server, name=name, before=before: generated(server, name) > before)
        assert generated(server, name) - before < 1900
        assert chat(server, name, "home").choices[0].message.content


def test_a_client_that_gives_up_waiting_stops_its_answer(server: Any, alone: Any) -> None:
    never = {str(id): -100 for id in alone["tiny"].renderer.stop_ids}
    with pytest.raises(openai.APITimeoutError):
        chat(server, "tiny", "home", max_tokens=1900, n=32, logit_bias=never, timeout=0.3)
    server.until(lambda server: server.flight == 0, seconds=2)


def generated(server: Any, name: str) -> int:
    import httpx

    text = httpx.get(f"{server.url}/metrics").text
    start = f'whet_tokens_total{{kind="generated",model="{name}"}} '
    return sum(int(line.removeprefix(start)) for line in text.splitlines() if line.startswith(start))


def test_when_too_many_wait_the_next_is_asked_to_try_again(serve: Any, alone: Any) -> None:
    server = serve(at_once=1, most_waiting=2)
    never = {str(id): -100 for id in alone["tiny"].renderer.stop_ids}
    long = {"max_tokens": 1900, "logit_bias": never, "stream": True}
    streams = [chat(server, "tiny", "home", **long)]
    server.until(lambda server: server.flight == 1)
    streams += [chat(server, "tiny", f"home {n}", **long) for n in range(2)]
    with pytest.raises(openai.RateLimitError) as refused:
        chat(server, "tiny", "one more")
    assert refused.value.response.headers["retry-after"] == "1"
    assert refused.value.code == "rate_limit_exceeded"
    for stream in streams:
        stream.close()
    server.until(lambda server: server.flight == server.waiting == 0)
    assert chat(server, "tiny", "now").choices[0].message.content
