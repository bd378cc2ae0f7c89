"""/v1/embeddings: texts as vectors, by the model's own hidden states (`whet.models.embed`)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response

from whet.models.embed import embed_ids
from whet.serve.faults import ApiFault
from whet.serve.opened import Served
from whet.serve.routes.asking import answered, do, metrics_of, rendered, shelf_of
from whet.serve.routes.completions import prompts_of
from whet.serve.wire.requests import EmbeddingRequest

router = APIRouter()


@router.post("/v1/embeddings", summary="Texts as vectors")
async def embeddings(body: EmbeddingRequest, request: Request) -> Response:
    served = shelf_of(request).find(body.model)
    ids = [prompt.ids for prompt in await rendered(served, lambda: prompts_of(served, body.input))]
    _check(served, ids)
    metrics_of(request).tokens(served.name, sum(map(len, ids)), 0)
    return await answered(request, _made(served, ids, body))


async def _made(served: Served, ids: Sequence[list[int]], body: EmbeddingRequest) -> dict[str, Any]:
    vectors = await do(served, lambda turn: embed_ids(turn.side.model, ids))
    total = sum(map(len, ids))
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": number, "embedding": _shown(vector, body.encoding_format)}
            for number, vector in enumerate(vectors)
        ],
        "model": served.name,
        "usage": {"prompt_tokens": total, "total_tokens": total},
    }


def _check(served: Served, ids: Sequence[list[int]]) -> None:
    for number, one in enumerate(ids):
        if not one:
            raise ApiFault(400, f"text {number} is empty", param="input", code="empty_prompt")
        if served.longest is not None and len(one) > served.longest:
            raise ApiFault(
                400, f"text {number} has {len(one):,} tokens, and {served.name} takes {served.longest:,}",
                param="input", code="context_length_exceeded",
            )  # fmt: skip


def _shown(vector: np.ndarray, form: str) -> list[float] | str:
    """Numbers, or little-endian float32 in base64, as the client reads it."""
    if form == "float":
        return vector.tolist()  # type: ignore[no-any-return]
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
