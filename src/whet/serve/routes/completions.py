"""/v1/completions: text that is gone on with, and the log-probabilities of text that is there (`echo`)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from whet.serve.faults import ApiFault
from whet.serve.inference.choice import TokenLogp
from whet.serve.inference.scores import score
from whet.serve.metrics import Metrics
from whet.serve.opened import Served
from whet.serve.routes.asking import Answers, EventStream, answered, choices_of, do, metrics_of, rendered, shelf_of
from whet.serve.wire.answers import Envelope, Gathered, event, text_logprobs, usage
from whet.serve.wire.requests import CompletionRequest

router = APIRouter()


@dataclass(frozen=True)
class Prompt:
    """What is gone on with; `tokens` where its log-probabilities are asked for."""

    ids: list[int]
    text: str
    tokens: Sequence[TokenLogp] = ()


@router.post("/v1/completions", summary="Go on with a text")
async def completions(body: CompletionRequest, request: Request) -> Response:
    served = shelf_of(request).find(body.model)
    prompts = await rendered(served, lambda: prompts_of(served, body.prompt))
    choices = choices_of(served, [prompt.ids for prompt in prompts], body, body.max_tokens, body.logprobs, "prompt")
    if body.echo and body.logprobs is not None:
        top, ids = body.logprobs, [prompt.ids for prompt in prompts]
        scores = await do(served, lambda turn: score(turn.language_model, ids, top))
        prompts = [Prompt(p.ids, p.text, tokens) for p, tokens in zip(prompts, scores, strict=True)]
    answers = Answers(served, choices if body.max_tokens else [])
    made = _Made(served, body, prompts, answers, Envelope.of("text_completion", served.name), metrics_of(request))
    if body.stream:
        return EventStream(made.chunks())
    return await answered(request, made.whole())


def prompts_of(served: Served, given: str | list[int] | list[str] | list[list[int]]) -> list[Prompt]:
    """Texts are tokenised as training does it to texts, with the special tokens that the tokenizer puts before them.
    Raises ApiFault for tokens that the model does not have."""
    several = given if isinstance(given, list) and not isinstance(given[0], int) else [given]
    prompts = []
    for one in several:
        if isinstance(one, str):
            prompts.append(Prompt(served.tokenizer(one, verbose=False)["input_ids"], one))
            continue
        assert isinstance(one, list), "by the request's type"
        ids = [int(id) for id in one]
        if max(ids) >= served.vocabulary:
            message = f"no token {max(ids)}: ids of this model are 0 to {served.vocabulary - 1}"
            raise ApiFault(400, message, param="prompt", code="invalid_value")
        text = served.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        prompts.append(Prompt(ids, text))
    return prompts


@dataclass(frozen=True)
class _Made:
    """The answer to one request, whole or in chunks."""

    served: Served
    body: CompletionRequest
    prompts: Sequence[Prompt]
    answers: Answers
    envelope: Envelope
    metrics: Metrics

    @property
    def _prompt_tokens(self) -> int:
        return sum(len(prompt.ids) for prompt in self.prompts)

    def _beginnings(self) -> list[Gathered]:
        """Of each answer what it begins with: the prompt where it is to be echoed."""
        found = []
        for prompt in self.prompts:
            for _ in range(self.body.n):
                finish = None if self.body.max_tokens else "length"
                text = prompt.text if self.body.echo else ""
                found.append(Gathered(text, list(prompt.tokens), finish))
        return found

    async def whole(self) -> dict[str, Any]:
        found = self._beginnings()
        async for piece in self.answers:
            found[piece.choice].add(piece)
        generated = sum(one.generated for one in found)
        self.metrics.tokens(self.served.name, self._prompt_tokens, generated)
        choices = [self._choice(number, one, 0) for number, one in enumerate(found)]
        return self.envelope.filled(choices, usage=usage(self._prompt_tokens, generated))

    async def chunks(self) -> AsyncGenerator[str, None]:
        more: dict[str, Any] = {"usage": None} if self.body.include_usage else {}
        begun = self._beginnings()
        offsets, generated = [len(one.text) for one in begun], [0] * len(begun)
        try:
            for number, one in enumerate(begun):
                if self.body.echo or one.finish:
                    yield event(self.envelope.filled([self._choice(number, one, 0)], **more))
            async for piece in self.answers:
                one = Gathered()
                one.add(piece)
                generated[piece.choice] = piece.generated
                if one.text or one.tokens or one.finish:
                    choice = self._choice(piece.choice, one, offsets[piece.choice])
                    yield event(self.envelope.filled([choice], **more))
                offsets[piece.choice] += len(piece.text)
            if self.body.include_usage:
                yield event(self.envelope.filled([], usage=usage(self._prompt_tokens, sum(generated))))
        finally:
            self.answers.leave()
            self.metrics.tokens(self.served.name, self._prompt_tokens, sum(generated))

    def _choice(self, number: int, one: Gathered, offset: int) -> dict[str, Any]:
        asked = self.body.logprobs is not None
        logprobs = text_logprobs(one.tokens, self.served.bytes, offset) if asked else None
        return {"index": number, "text": one.text, "logprobs": logprobs, "finish_reason": one.finish}
