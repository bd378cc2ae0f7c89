"""What every request meets before the application, and every answer after it: an id, the key, the size of its body, a
place in the counts. Nothing that goes wrong inside leaves the client without an answer."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import time
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from whet.listen import is_loopback
from whet.serve.faults import ApiFault
from whet.serve.metrics import Metrics

log = logging.getLogger("whet.serve")

MOST_BYTES = 16 * 2**20
"""Of a request's body."""
OPEN = frozenset({"/health"})
"""Paths that need no key."""


class Key:
    """An API key, of which only the SHA-256 is kept. A key drawn at random needs no slower hash."""

    def __init__(self, key: str):
        self._hash = _hashed(key)

    def fits(self, given: str) -> bool:
        """In a time that tells nothing about how much of it is right."""
        return hmac.compare_digest(self._hash, _hashed(given))


class Guard:
    """The application, guarded. Without a key only this machine is answered, and no page of another site in a browser
    of this machine."""

    def __init__(self, app: ASGIApp, key: Key | None, metrics: Metrics):
        self.app, self.key, self.metrics = app, key, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        name, begun, status = f"req_{secrets.token_hex(12)}", time.monotonic(), 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = name
            await send(message)

        try:
            self._check(scope)
            await self.app(scope, _bounded(receive), sent)
        except ApiFault as fault:
            await fault.response()(scope, receive, sent)
        except Exception:  # answered as 500 by the application, if it was not yet at answering
            log.exception("%s %s (%s)", scope["method"], scope["path"], name)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.request(route, status, time.monotonic() - begun)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if self.key is not None and scope["path"] not in OPEN:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not self.key.fits(given.strip()):
                raise ApiFault(401, "this server needs its API key: Authorization: Bearer KEY", code="invalid_api_key")
        if self.key is None:
            _check_local(headers)
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length[:20]) > MOST_BYTES:
            raise _too_large()


def _check_local(headers: Headers) -> None:
    """A page of another site may send requests to this machine: its origin, or a name that it made to point here, gives
    it away."""
    host = headers.get("host", "")
    for url in (f"//{host}", headers.get("origin", f"//{host}")):
        try:
            name = urlsplit(url).hostname or ""
        except ValueError:
            name = ""
        if not is_loopback(name):
            raise ApiFault(403, "this server has no API key, and so answers this machine alone", code="not_local")


def _too_large() -> ApiFault:
    return ApiFault(
        413, f"the body has more than {MOST_BYTES:,} bytes", code="request_too_large", headers={"connection": "close"}
    )


def _bounded(receive: Receive) -> Receive:
    """Bodies whose length is not told beforehand, counted as they come."""
    size = 0

    async def received() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > MOST_BYTES:
            fault = _too_large()
            raise HTTPException(fault.status, fault.message, dict(fault.headers or {}))
        return message

    return received


def _hashed(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
