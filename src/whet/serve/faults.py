"""Faults as OpenAI's API tells them: {"error": {message, type, param, code}}, whatever went wrong."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from whet.serve.wire.unsupported import UNSUPPORTED

log = logging.getLogger("whet.serve")

KIND = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class ApiFault(Exception):
    """An answer that is a fault. `param` is the field that is to be mended, `code` what programs compare."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):  # fmt: skip
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.headers = status, message, param, code, headers

    @property
    def body(self) -> dict[str, Any]:
        kind = KIND.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status, self.headers)


def full(waiting: int) -> ApiFault:
    """Too many wait already. The client's own retry reads the header."""
    return ApiFault(
        429, f"{waiting:,} answers wait already; try again", code="rate_limit_exceeded", headers={"retry-after": "1"}
    )


def broken() -> ApiFault:
    """What went wrong is in the server's log, not in the answer."""
    return ApiFault(500, "the server failed at this request; its log says why", code="internal_error")


def add_faults(app: FastAPI) -> None:
    """Every fault of the application in this one form."""

    @app.exception_handler(ApiFault)
    async def told(request: Request, fault: ApiFault) -> JSONResponse:
        return fault.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return _of_field(error.errors()[0]).response()

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 404:
            return ApiFault(404, f"no such URL: {request.method} {request.url.path}", code="unknown_url").response()
        return ApiFault(error.status_code, str(error.detail), headers=error.headers).response()

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return broken().response()  # the guard logs it


def _of_field(error: Mapping[str, Any]) -> ApiFault:
    """pydantic's first complaint. Inside a choice of kinds its place names the kind too, which no caller knows."""
    place = [str(part) for part in error["loc"] if part not in ("body", "str") and "[" not in str(part)]
    param = ".".join(place) or None
    if error["type"] == "json_invalid":
        why = error.get("ctx", {}).get("error", error["msg"])
        return ApiFault(400, f"the body is not JSON: {why}", code="invalid_json")
    if error["type"] == "extra_forbidden":
        if param in UNSUPPORTED:
            return ApiFault(400, f"{param} is not supported by this server", param=param, code="unsupported_parameter")
        return ApiFault(400, f"unknown field: {param}", param=param, code="unknown_parameter")
    if error["type"] == "missing":
        return ApiFault(400, f"a field is missing: {param}", param=param, code="missing_required_parameter")
    message = error["msg"].removeprefix("Value error, ")
    return ApiFault(400, f"{param}: {message}" if param else message, param=param, code="invalid_value")
