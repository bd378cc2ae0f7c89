"""Asking an endpoint that fails in every way it can: a real server on this machine."""

from __future__ import annotations

import threading
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import orjson
import pytest

from whet.endpoint import GIVE_UP, Answer, Endpoint, Lent, in_order, retry_after
from whet.errors import ModelError, StorageError


def endpoint(server: Any, **settings: Any) -> Endpoint:
    return Endpoint(server.url, {"model": "m", "temperature": 0.5}, **({"backoff": 0.01, "timeout": 5} | settings))


def request(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "seed": 7}


def asked(model: Endpoint, texts: list[str]) -> list[Answer]:
    return [answers[0] for _, answers in model.ask(texts, lambda text: [request(text)])]


def body(text: Any, **choice: Any) -> bytes:
    return orjson.dumps({"choices": [{"message": {"content": text}, **choice}]})


def test_answers_come_in_order_and_requests_are_as_openai_has_them(chat_server: Any) -> None:
    def reply(body: dict[str, Any], number: int) -> str:
        text = body["messages"][0]["content"]
        time.sleep(0.05 if text == "0" else 0)
        return f"re {text}"

    chat_server.reply = reply
    texts = [str(number) for number in range(40)]
    assert asked(endpoint(chat_server, key="secret"), texts) == [Answer(f"re {text}") for text in texts]
    first = next(body for body in chat_server.seen if body["messages"][0]["content"] == "0")
    assert first == {
        "path": "/v1/chat/completions", "model": "m", "temperature": 0.5, "seed": 7,
        "messages": [{"role": "user", "content": "0"}],
    }  # fmt: skip
    assert chat_server.headers[0]["Authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    "failure",
    [
        (500, {}, b"oops"),
        (429, {"Retry-After": "0"}, b"{}"),
        (503, {"Retry-After": "nonsense"}, b""),
        (200, {}, b"<html>"),
        (200, {}, b'{"choices": []}'),
        (200, {}, b"[1]"),
        (200, {}, body(None)),
        (200, {}, body("  ")),
        (200, {"Content-Encoding": "none", "Content-Length": "999"}, b"{"),
        0.5,
    ],
    ids=str,
)
def test_what_can_pass_is_tried_again(chat_server: Any, failure: Any) -> None:
    chat_server.reply = lambda body, number: failure if number < 2 else "at last"
    model = endpoint(chat_server, timeout=0.25, retries=2)
    assert asked(model, ["x"]) == [Answer("at last")]
    assert model.counts == {"asked": 1, "retried": 2}


@pytest.mark.parametrize(
    ("failure", "fault", "down"),
    [
        ((500, {}, b""), "HTTP 500", True),
        ((429, {}, b""), "HTTP 429", True),
        ((200, {}, b"nonsense"), "an answer that is no chat completion", True),
        ((200, {}, body("")), "empty answer", False),
        (0.6, "no answer in 0.25 s", True),
    ],
    ids=str,
)
def test_what_does_not_pass_is_a_fault_and_the_rest_goes_on(
    chat_server: Any, failure: Any, fault: str, down: bool
) -> None:
    chat_server.reply = lambda body, number: failure if body["messages"][0]["content"] == "bad" else "good"
    model = endpoint(chat_server, timeout=0.25, retries=1)
    assert asked(model, ["a", "bad", "b"]) == [Answer("good"), Answer("", fault, down), Answer("good")]
    assert len(chat_server.seen) == 4


@pytest.mark.parametrize(
    ("failure", "fault"),
    [
        ((400, {}, b'{"error": {"message": "too long, KEY"}}'), "HTTP 400"),
        ((200, {}, body("half", finish_reason="length")), "cut off at max_tokens"),
    ],
)
def test_what_will_never_pass_is_asked_once(chat_server: Any, failure: Any, fault: str) -> None:
    chat_server.reply = lambda body, number: failure
    model = endpoint(chat_server, key="KEY")
    assert asked(model, ["x"]) == [Answer("", fault)]
    assert len(chat_server.seen) == 1
    assert model.says in ("", "too long, ***")


@pytest.mark.parametrize("status", [401, 403, 404, 302])
def test_a_wrong_key_or_address_stops_at_once_and_shows_no_key(chat_server: Any, status: int) -> None:
    said = b'{"error": {"message": "no such key: KEY-123"}}'
    chat_server.reply = lambda body, number: (status, {"Location": "http://127.0.0.1:1/elsewhere"}, said)
    with pytest.raises(ModelError, match=f"HTTP {status}") as error:
        asked(endpoint(chat_server, key="KEY-123"), ["a", "b", "c"])
    assert "KEY" not in str(error.value)
    assert "api_key_env" in str(error.value)


def test_nobody_there_is_a_fault() -> None:
    model = Endpoint("http://127.0.0.1:9/v1", {"model": "m"}, retries=1, backoff=0.0)
    assert asked(model, ["x"]) == [Answer("", "no connection", down=True)]


def test_the_server_says_how_long_to_wait(chat_server: Any) -> None:
    chat_server.reply = lambda body, number: (429, {"Retry-After": "1"}, b"") if number == 0 else "now"
    assert asked(endpoint(chat_server), ["x"]) == [Answer("now")]
    assert chat_server.times[1] - chat_server.times[0] >= 1


def test_retry_after_is_seconds_or_a_date() -> None:
    assert retry_after("2.5") == 2.5
    assert retry_after("-3") == 0
    assert retry_after(formatdate(time.time() + 30, usegmt=True)) == pytest.approx(30, abs=2)
    assert retry_after(formatdate(time.time() - 30, usegmt=True)) == 0
    assert retry_after("soon") is retry_after(None) is None


def test_a_dead_endpoint_is_given_up(chat_server: Any) -> None:
    chat_server.reply = lambda body, number: (500, {}, b"")
    answers = asked(endpoint(chat_server, retries=0, concurrency=1), [str(n) for n in range(GIVE_UP + 30)])
    assert len(chat_server.seen) == GIVE_UP
    assert [answer.fault for answer in answers[:GIVE_UP]] == ["HTTP 500"] * GIVE_UP
    assert all(answer.fault.startswith("not asked") for answer in answers[GIVE_UP:])


def test_answers_are_paid_for_once(chat_server: Any, tmp_path: Path) -> None:
    cache = tmp_path / "answers.jsonl"
    chat_server.reply = lambda body, number: (500, {}, b"") if number == 2 else f"answer {number}"
    first = asked(endpoint(chat_server, cache=cache, concurrency=1, retries=0, key="KEY"), ["a", "b", "c"])
    assert [answer.fault for answer in first] == ["", "", "HTTP 500"]
    with cache.open("ab") as file:
        file.write(b'{"request": "cut o')  # as after a kill
    again = endpoint(chat_server, cache=cache, concurrency=1)
    assert asked(again, ["a", "b", "c", "a"]) == [*first[:2], Answer("answer 3"), first[0]]
    assert again.counts == {"from cache": 3, "asked": 1}
    third = endpoint(chat_server, cache=cache)
    assert asked(third, ["c"]) == [Answer("answer 3")]
    assert b"KEY" not in cache.read_bytes()
    other = Endpoint(chat_server.url, {"model": "another"}, cache=cache)
    assert asked(other, ["a"]) == [Answer("answer 4")]


def test_a_cache_that_cannot_be_written_stops_before_anything_is_asked(chat_server: Any, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        endpoint(chat_server, cache=tmp_path / "nowhere" / "answers.jsonl")


def test_what_is_not_as_asked_for_is_tried_again(chat_server: Any) -> None:
    chat_server.reply = lambda body, number: "no" if number == 0 else "yes"
    assert asked(endpoint(chat_server, sensible=lambda text: text == "yes"), ["x"]) == [Answer("yes")]


def test_thinking_aloud_is_left_out(chat_server: Any) -> None:
    chat_server.reply = lambda body, number: "<think>\nhm, hm\n</think>\n\nSo."
    assert asked(endpoint(chat_server), ["x"])[0].text.strip() == "So."


def test_items_are_taken_only_a_little_ahead() -> None:
    taken: list[int] = []
    results = in_order(str, (taken.append(n) or n for n in range(1000)), workers=2)
    assert [next(results) for _ in range(3)] == [(0, "0"), (1, "1"), (2, "2")]
    assert len(taken) <= 3 + 8
    results.close()


def test_threads_end_with_the_loop() -> None:
    def at_work() -> int:
        return sum(thread.name == "whet-asks" for thread in threading.enumerate())

    results = in_order(str, range(20), workers=5)
    next(results)
    assert at_work() >= 5
    assert [number for number, _ in results] == list(range(1, 20))
    until = time.monotonic() + 10
    while at_work() and time.monotonic() < until:
        time.sleep(0.01)
    assert at_work() == 0


def test_an_error_of_the_function_is_raised_where_its_result_is_due() -> None:
    results = in_order(lambda n: 1 // n, [1, 0, 2], workers=2)
    assert next(results) == (1, 1)
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_a_lent_model_gets_batches_and_an_empty_text_is_a_fault() -> None:
    sizes = []

    def generate(prompts: list[str], **settings: Any) -> list[str]:
        assert settings == {"model": "m"}
        sizes.append(len(prompts))
        return ["" if prompt == "7" else prompt.upper() for prompt in prompts]

    model = Lent(generate, model="m")
    found = list(
        model.ask([str(n) for n in range(100)], lambda text: [request(text)] * (text == "3") + [request(text)])
    )
    assert sizes == [65, 36]
    assert found[3] == ("3", [Answer("3"), Answer("3")])
    assert found[7] == ("7", [Answer("", "empty answer")])
