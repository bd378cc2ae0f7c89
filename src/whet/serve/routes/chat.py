"""/v1/chat/completions."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from whet.serve.faults import ApiFault
from whet.serve.inference.choice import Piece
from whet.serve.metrics import Metrics
from whet.serve.opened import Served
from whet.serve.routes.asking import Answers, EventStream, answered, choices_of, metrics_of, rendered, shelf_of
from whet.serve.wire.answers import Envelope, Gathered, chat_logprobs, event, usage
from whet.serve.wire.requests import ChatRequest

router = APIRouter()


@router.post("/v1/chat/completions", summary="Answer a conversation")
async def chat(body: ChatRequest, request: Request) -> Response:
    served = shelf_of(request).find(body.model)
    answers = Answers(served, choices_of(served, [await _prompt(served, body)], body, _max_tokens(body),
                                         (body.top_logprobs or 0) if body.logprobs else None, "messages"))  # fmt: skip
    envelope = Envelope.of("chat.completion", served.name)
    if body.stream:
        return EventStream(_chunks(answers, served, envelope, body, metrics_of(request)))
    return await answered(request, _whole(answers, served, envelope, body, metrics_of(request)))


async def _prompt(served: Served, body: ChatRequest) -> list[int]:
    messages = [message.plain() for message in body.messages]
    tools = None if body.tool_choice == "none" else body.tools
    return await rendered(served, lambda: served.renderer.prompt(messages, tools, whole=True))


def _max_tokens(body: ChatRequest) -> int | None:
    if None not in (body.max_tokens, body.max_completion_tokens):
        raise ApiFault(
            400, "max_tokens and max_completion_tokens say the same: give one of them", param="max_tokens",
            code="invalid_value",
        )  # fmt: skip
    return body.max_tokens or body.max_completion_tokens


async def _whole(
    answers: Answers, served: Served, envelope: Envelope, body: ChatRequest, metrics: Metrics
) -> dict[str, Any]:
    found = [Gathered() for _ in answers.choices]
    async for piece in answers:
        found[piece.choice].add(piece)
    choices = [
        {
            "index": number,
            "message": {"role": "assistant", "content": one.text, "refusal": None},
            "logprobs": chat_logprobs(one.tokens, served.bytes) if body.logprobs else None,
            "finish_reason": one.finish,
        }
        for number, one in enumerate(found)
    ]
    prompt, generated = len(answers.choices[0].prompt), sum(one.generated for one in found)
    metrics.tokens(served.name, prompt, generated)
    return envelope.filled(choices, usage=usage(prompt, generated))


async def _chunks(
    answers: Answers, served: Served, envelope: Envelope, body: ChatRequest, metrics: Metrics
) -> AsyncGenerator[str, None]:
    more = {"usage": None} if body.include_usage else {}
    generated = [0] * len(answers.choices)
    try:
        for number in range(len(answers.choices)):
            first = {"role": "assistant", "content": "", "refusal": None}
            yield event(envelope.filled([_choice(number, first)], chunk=True, **more))
        async for piece in answers:
            generated[piece.choice] = piece.generated
            for choice in _of_piece(piece, served, body):
                yield event(envelope.filled([choice], chunk=True, **more))
        if body.include_usage:
            total = usage(len(answers.choices[0].prompt), sum(generated))
            yield event(envelope.filled([], chunk=True, usage=total))
    finally:
        answers.leave()
        metrics.tokens(served.name, len(answers.choices[0].prompt), sum(generated))


def _of_piece(piece: Piece, served: Served, body: ChatRequest) -> list[dict[str, Any]]:
    """The text that a piece brings, and then that it was the last."""
    found = []
    if piece.text or piece.tokens:
        logprobs = chat_logprobs(piece.tokens, served.bytes) if body.logprobs else None
        found.append(_choice(piece.choice, {"content": piece.text}, logprobs))
    if piece.finish:
        found.append(_choice(piece.choice, {}, finish=piece.finish))
    return found


def _choice(number: int, delta: dict[str, Any], logprobs: Any = None, finish: str | None = None) -> dict[str, Any]:
    return {"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
