"""Between the application's loop and a scheduler's thread: a request goes in, its pieces come out, and a client that
leaves stops what was begun for it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from whet.errors import RowError, TemplateError
from whet.serve.faults import ApiFault, broken, full
from whet.serve.inference.choice import Choice, Piece, Sampling
from whet.serve.inference.scheduler import Asked, Full, Turn
from whet.serve.metrics import Metrics
from whet.serve.opened import Served, Shelf
from whet.serve.wire.answers import DONE, as_json, event
from whet.serve.wire.requests import Generating

Result = TypeVar("Result")


def shelf_of(request: Request) -> Shelf:
    return request.app.state.shelf  # type: ignore[no-any-return]


def metrics_of(request: Request) -> Metrics:
    return request.app.state.metrics  # type: ignore[no-any-return]


class ClientLeft(Exception):
    """Nobody reads the answer any more."""


class Answers:
    """A request's answers as they are written, from `ask` on."""

    def __init__(self, served: Served, choices: Sequence[Choice]):
        """Raises ApiFault where too many wait already."""
        self.choices = choices
        self._pieces: asyncio.Queue[list[Piece]] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def deliver(pieces: list[Piece]) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._pieces.put_nowait, pieces)

        self._asked = Asked(choices, deliver)
        try:
            served.scheduler.ask(served.name, self._asked)
        except Full as error:
            raise full(error.args[0]) from None

    def leave(self) -> None:
        self._asked.leave()

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """Pieces of all answers until the last has ended. Raises ApiFault where one fails."""
        writing = len(self.choices)
        try:
            while writing:
                for piece in await self._pieces.get():
                    if piece.fault is not None:
                        raise ApiFault(500, piece.fault, code="answer_failed")
                    writing -= piece.finish is not None
                    yield piece
        finally:
            self.leave()


async def do(served: Served, work: Callable[[Turn], Result]) -> Result:
    """Something else that the model's thread does. Raises ApiFault where too much waits already."""
    try:
        future = served.scheduler.do(served.name, work)
    except Full as error:
        raise full(error.args[0]) from None
    return await asyncio.wrap_future(future)


async def rendered(served: Served, work: Callable[[], Result]) -> Result:
    """A prompt made beside the loop; in the model's thread where the model is asked for demonstrations. Raises ApiFault
    with the template's own words where it refuses."""
    try:
        if served.renderer.by_question:
            return await do(served, lambda turn: work())
        return await run_in_threadpool(work)
    except (TemplateError, RowError) as error:
        raise ApiFault(400, error.what, param="messages", code="invalid_messages") from None


def choices_of(
    served: Served, prompts: Sequence[list[int]], body: Generating, max_tokens: int | None, top: int | None, param: str
) -> list[Choice]:
    """The answers that a request asks for. Raises ApiFault for a prompt that is empty or too long, and for tokens that
    the model does not have."""
    bias = {}
    for key, value in body.logit_bias.items():
        if not (key.isdecimal() and key.isascii()) or int(key[:12]) >= served.vocabulary:
            message = f"no token {key!r}: ids of this model are 0 to {served.vocabulary - 1}"
            raise ApiFault(400, message, param="logit_bias", code="invalid_value")
        bias[int(key)] = value
    seed = secrets.randbits(63) if body.seed is None else body.seed % 2**64
    sampling = Sampling(
        max_tokens, body.temperature, body.top_p, seed, body.presence_penalty, body.frequency_penalty, bias,
        tuple(body.stop), top,
    )  # fmt: skip
    rooms = [_room(served, prompt, max_tokens, param) for prompt in prompts]
    return [
        Choice(number * body.n + copy, prompt, room, served.tokenizer, sampling)
        for number, (prompt, room) in enumerate(zip(prompts, rooms, strict=True))
        for copy in range(body.n)
    ]


UNBOUNDED = 1 << 20
"""Tokens of an answer by a model whose positions have no end."""


def _room(served: Served, prompt: list[int], max_tokens: int | None, param: str) -> int:
    if not prompt:
        raise ApiFault(400, "the prompt is empty, and there is nothing to go on", param=param, code="empty_prompt")
    wanted = UNBOUNDED if max_tokens is None else max_tokens
    if served.longest is None:
        return wanted
    needed = len(prompt) if max_tokens == 0 else len(prompt) + 1
    if needed > served.longest:
        raise ApiFault(
            400, f"the prompt has {len(prompt):,} tokens, and {served.name} takes {served.longest:,} with the answer",
            param=param, code="context_length_exceeded",
        )  # fmt: skip
    return min(wanted, served.longest - len(prompt))


async def while_there(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """What `work` gives. Raises ClientLeft, and stops it, where the client leaves first."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientLeft
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def answered(request: Request, work: Coroutine[Any, Any, Any]) -> Response:
    """A JSON answer, unless the client leaves before it is whole."""
    try:
        data = await while_there(request.receive, work)
    except ClientLeft:
        return Response(status_code=499)  # nobody reads it; the counts do
    return Response(as_json(data), media_type="application/json")


class EventStream(StreamingResponse):
    """Server-sent events. What goes wrong after the first is an event too."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[str, None]):
        self.events = _to_the_end(events)
        super().__init__(self.events, headers={"cache-control": "no-store", "x-accel-buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self.events):
            with suppress(ClientLeft):
                await while_there(receive, self.stream_response(send))


async def _to_the_end(events: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    try:
        async with aclosing(events):
            async for one in events:
                yield one
    except ApiFault as fault:
        yield event(fault.body)
    except Exception:
        yield event(broken().body)
        raise
    yield DONE
