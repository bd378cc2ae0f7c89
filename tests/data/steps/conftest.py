"""A real HTTP server that speaks as much of OpenAI's API as a test needs, and misbehaves on demand."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

Reply = tuple[int, dict[str, str], bytes] | str | float
"""What becomes of a request: (status, headers, body), a chat completion of this text, or silence for some seconds."""


class ChatServer:
    """`reply(body, number)` says what happens to a request; number counts requests from 0, `seen` has them all."""

    def __init__(self) -> None:
        self.reply: Callable[[dict[str, Any], int], Reply] = lambda body, number: "fine"
        self.seen: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        lock, outer = threading.Lock(), self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    number = len(outer.seen)
                    outer.seen.append(body | {"path": self.path})
                    outer.headers.append(dict(self.headers))
                    outer.times.append(time.monotonic())
                reply = outer.reply(body, number)
                if isinstance(reply, float):
                    time.sleep(reply)
                    return
                if isinstance(reply, str):
                    reply = (200, {}, completion(reply))
                self.send_response(reply[0])
                for name, value in reply[1].items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply[2])))
                self.end_headers()
                self.wfile.write(reply[2])

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


def completion(text: Any, ended: str = "stop") -> bytes:
    return json.dumps({"choices": [{"message": {"content": text}, "finish_reason": ended}]}).encode()


@pytest.fixture
def chat_server() -> Iterator[ChatServer]:
    """A server on a port of its own; `url` ends in /v1."""
    server = ChatServer()
    yield server
    server.server.shutdown()
    server.server.server_close()
