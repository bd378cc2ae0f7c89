"""The application: routes over what is served, faults in one form, the guard around all."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.types import ASGIApp

from whet.serve.faults import add_faults
from whet.serve.guard import Guard, Key
from whet.serve.metrics import Metrics
from whet.serve.opened import Shelf
from whet.serve.routes import chat, completions, embeddings, health, models

STATUSES = {
    400: "A request that cannot be answered as it is", 401: "No key, or another", 403: "Not from this machine",
    404: "No such model", 413: "A body that is too large", 429: "Too many wait", 500: "A fault of the server",
}  # fmt: skip


def make_app(shelf: Shelf, key: Key | None = None) -> ASGIApp:
    app = FastAPI(title="whet", docs_url=None, redoc_url=None, openapi_url="/openapi.json", redirect_slashes=False)
    app.state.shelf, app.state.metrics = shelf, Metrics()
    add_faults(app)
    for room in (models, chat, completions, embeddings, health):
        app.include_router(room.router)
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    return Guard(app, key, app.state.metrics)


def _described(app: FastAPI) -> dict[str, Any]:
    """OpenAPI's description, with the faults that there are, and without FastAPI's own 422, which never happens."""
    if app.openapi_schema is None:
        tree = get_openapi(title=app.title, version="1", routes=app.routes)
        fault = {"application/json": {"schema": {"$ref": "#/components/schemas/Fault"}}}
        for path in tree["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
                for status, meaning in STATUSES.items():
                    operation["responses"][str(status)] = {"description": meaning, "content": fault}
        schemas = tree.setdefault("components", {}).setdefault("schemas", {})
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        text = {"type": ["string", "null"]}
        inside = {"message": {"type": "string"}, "type": {"type": "string"}, "param": text, "code": text}
        error = {"type": "object", "required": list(inside), "properties": inside}
        schemas["Fault"] = {"type": "object", "required": ["error"], "properties": {"error": error}}
        app.openapi_schema = tree
    return app.openapi_schema
