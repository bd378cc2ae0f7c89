"""What is refused, in OpenAI's words; and the server goes on."""

from __future__ import annotations

import socket
from typing import Any

import httpx
import openai
import pytest
import torch

from whet.models import decode

ASKED: list[Any] = [{"role": "user", "content": "home"}]


def chat(server: Any, **settings: Any) -> Any:
    given = {"model": "tiny", "messages": ASKED, "max_tokens": 4, **settings}
    return server.client.chat.completions.create(**given)


@pytest.mark.parametrize(
    ("settings", "param", "code"),
    [
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"n": 0}, "n", "invalid_value"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "invalid_value"),
        ({"stop": ""}, "stop.0", "invalid_value"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages.0", "invalid_value"),
        ({"messages": [{"role": "king", "content": "a"}]}, "messages.0.role", "invalid_value"),
        ({"top_logprobs": 2}, None, "invalid_value"),
        ({"max_completion_tokens": 4}, "max_tokens", "invalid_value"),
        ({"logit_bias": {"999": 1}}, "logit_bias", "invalid_value"),
        ({"logit_bias": {"x": 1}}, "logit_bias", "invalid_value"),
        ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
        ({"reasoning_effort": "low"}, "reasoning_effort", "unsupported_parameter"),
        ({"extra_body": {"temprature": 1}}, "temprature", "unknown_parameter"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "messages", "invalid_messages"),
        ({"messages": [{"role": "user", "content": "a\0b"}]}, None, "invalid_value"),
        ({"messages": [{"role": "user", "content": "home " * 3000}]}, "messages", "context_length_exceeded"),
    ],
)  # fmt: skip
def test_a_bad_request_names_what_is_wrong(server: Any, settings: Any, param: str | None, code: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        chat(server, **settings)
    assert (refused.value.param, refused.value.code) == (param, code)
    assert refused.value.type == "invalid_request_error"
    assert refused.value.request_id is not None
    if code == "context_length_exceeded":
        assert "2,048" in str(refused.value)


@pytest.mark.parametrize(
    "content",
    [[{"type": "image_url", "image_url": {"url": "data:"}}], [{"type": "input_audio", "input_audio": {}}]],
)
def test_what_the_model_cannot_see_is_refused(server: Any, content: Any) -> None:
    with pytest.raises(openai.BadRequestError, match=content[0]["type"]):
        chat(server, messages=[{"role": "user", "content": content}])


def test_parts_of_text_are_one_text_and_null_is_as_good_as_absent(server: Any) -> None:
    parts = [{"type": "text", "text": "ho"}, {"type": "text", "text": "me"}]
    more = {"response_format": {"type": "text"}, "store": False, "user": "me", "seed": None, "temperature": 0}
    found = chat(server, messages=[{"role": "user", "content": parts}], **more)
    assert found.choices[0].message.content == chat(server, temperature=0).choices[0].message.content


def test_a_model_that_is_not_there(server: Any) -> None:
    with pytest.raises(openai.NotFoundError, match=r"'tinny' does not exist. Did you mean 'tiny'") as refused:
        chat(server, model="tinny")
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError):
        server.client.models.retrieve("Qwen/Qwen3-0.6B")
    assert [model.id for model in server.client.models.list()] == ["tiny", "law", "med", "falcon"]
    assert server.client.models.retrieve("law").owned_by == "whet"


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"\xff\xfe{}", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b'{"model": ' + b"[" * 900 + b"]" * 900 + b"}", {}, 400),
        (b'{"model": "tiny", "messages": [{"role": "user", "content": "\\ud800"}]}', {}, 400),
        (b'{"model": "tiny", "temperature": NaN, "messages": [{"role": "user", "content": "a"}]}', {}, 400),
        (b'{"model": "tiny", "seed": ' + b"9" * 5000 + b"}", {}, 400),
        (b"{}", {"content-type": "text/plain"}, 400),
        (b"null", {}, 400),
        (b"{}", {"host": "evil.example"}, 403),
        (b"{}", {"origin": "https://evil.example"}, 403),
    ],
)
def test_what_no_client_would_send(server: Any, body: bytes, headers: dict[str, str], status: int) -> None:
    headers = {"content-type": "application/json", **headers}
    answer = httpx.post(f"{server.url}/v1/chat/completions", content=body, headers=headers)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"].startswith("req_")
    assert chat(server).choices


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/nothing"), ("GET", "/v1/chat/completions")])
def test_urls_that_are_not_there(server: Any, method: str, path: str) -> None:
    answer = httpx.request(method, server.url + path)
    assert answer.status_code in (404, 405)
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_body_of_a_gigabyte_is_refused_unread(server: Any) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    for head in (b"Content-Length: 1073741824", b"Transfer-Encoding: chunked"):
        with socket.create_connection((host, int(port)), timeout=30) as raw:
            raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n" + head + b"\r\n")
            raw.sendall(b"Content-Type: application/json\r\n\r\n")
            sent = 0
            try:
                while head.startswith(b"Transfer") and sent < 1000:
                    raw.sendall(b"100000\r\n" + b"a" * 2**20 + b"\r\n")
                    sent += 1
            except OSError:
                pass  # it was told to go
            assert sent < 100, "most of it was never taken"
            if not sent:
                assert raw.recv(4096).startswith(b"HTTP/1.1 413")
    assert chat(server).choices


def test_a_model_without_numbers_fails_the_one_answer_alone(serve: Any) -> None:
    server = serve()
    served = server.shelf.find("tiny")
    bad = served.tokenizer("z").input_ids[0]
    with torch.no_grad():
        served.side.model.get_input_embeddings().weight[bad] = float("nan")
    with pytest.raises(openai.InternalServerError, match="no numbers"):
        chat(server, messages=[{"role": "user", "content": "z"}], n=3)
    events = list(chat(server, stream=True))
    assert events[-1].choices[0].finish_reason
    with pytest.raises(openai.APIError, match="no numbers"):
        list(chat(server, messages=[{"role": "user", "content": "z"}], stream=True))
    server.until(lambda server: server.flight == server.waiting == 0)


def test_a_step_that_fails_ends_what_was_in_flight_and_no_more(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve()
    for place in ("_step", "_admit", "_lay"):
        with monkeypatch.context() as broken:
            broken.setattr(decode.Decoder, place, lambda *_: 1 / 0)
            with pytest.raises(openai.InternalServerError, match="the server's log says why"):
                chat(server, n=2)
    assert chat(server).choices
    assert httpx.get(f"{server.url}/health").json() == {"status": "ok"}


def test_a_key_is_asked_for(serve: Any) -> None:
    server = serve(key="secret-key")
    assert chat(server).choices
    for given in ("Bearer secret-kez", "Bearer", "secret-key", "Basic secret-key", "Bearer secret-key\u00e9"):
        headers = {"authorization": given.encode()}
        answer = httpx.get(f"{server.url}/v1/models", headers=headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
    other = openai.OpenAI(base_url=f"{server.url}/v1", api_key="other", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        other.models.list()
    assert httpx.get(f"{server.url}/metrics").status_code == 401
    assert httpx.get(f"{server.url}/health").json() == {"status": "ok"}
    guard = server.server.config.app
    assert "secret-key" not in repr(vars(guard)) + repr(vars(guard.key))


def test_the_description_has_all_routes_and_no_422(server: Any) -> None:
    tree = httpx.get(f"{server.url}/openapi.json").json()
    assert set(tree["paths"]) == {
        "/v1/models", "/v1/models/{model}", "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/health",
        "/metrics",
    }  # fmt: skip
    answers = [set(one["responses"]) for path in tree["paths"].values() for one in path.values()]
    assert all("422" not in statuses and {"200", "400", "500"} <= statuses for statuses in answers)
    body = tree["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/ChatRequest"}


def test_requests_are_counted(server: Any) -> None:
    def count(text: str) -> int:
        start = 'whet_requests_total{route="/v1/chat/completions",status="200"} '
        return sum(int(line.removeprefix(start)) for line in text.splitlines() if line.startswith(start))

    before = count(httpx.get(f"{server.url}/metrics").text)
    chat(server)
    server.until(lambda server: count(httpx.get(f"{server.url}/metrics").text) == before + 1)
