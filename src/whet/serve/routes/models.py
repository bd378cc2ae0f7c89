"""/v1/models: what is served."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from whet.serve.opened import Served
from whet.serve.routes.asking import shelf_of

router = APIRouter()


@router.get("/v1/models", summary="All models")
async def models(request: Request) -> dict[str, Any]:
    return {"object": "list", "data": [_shown(served) for served in shelf_of(request).by_name.values()]}


@router.get("/v1/models/{model:path}", summary="One model")
async def model(model: str, request: Request) -> dict[str, Any]:
    return _shown(shelf_of(request).find(model))


def _shown(served: Served) -> dict[str, Any]:
    return {"id": served.name, "object": "model", "created": served.created, "owned_by": "whet"}
