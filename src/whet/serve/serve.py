"""Serving from the first model opened to the last signal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from socket import socket

from whet.errors import MissingExtra, RecipeError
from whet.listen import BACKLOG, address, bound, is_loopback


def serve(
    sources: Mapping[str, str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    at_once: int = 64,
    most_waiting: int = 1024,
    dtype: str = "auto",
    told: Callable[[str, list[str], list[str]], None] = lambda url, names, notes: None,
) -> None:
    """Serve models by name until a signal ends it. `told` hears the address, the names and what should be known of
    their files, before the first request. `port` 0 takes a free one. `dtype` is that of frozen weights: float32,
    bfloat16, or as recipes and the machine have it.

    Raises MissingExtra without FastAPI or uvicorn, RecipeError for an address that others reach without a key, RunError
    for one that is taken, and what opening a model raises.
    """
    if api_key is None and not is_loopback(host):
        raise RecipeError(
            "others could reach it, and there is no key", where=f"--host {host}",
            do="set WHET_API_KEY, or leave out --host and use an SSH tunnel",
        )  # fmt: skip
    try:
        import uvicorn

        from whet.serve.app import make_app
        from whet.serve.guard import Key
        from whet.serve.opened import open_shelf
    except ImportError as error:
        raise MissingExtra(error.name or "fastapi", "serve", "a server") from None
    import torch

    with bound(host, port) as listening:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        weights = None if dtype == "auto" else getattr(torch, dtype)
        shelf = open_shelf(sources, at_once=at_once, most_waiting=most_waiting, device=device, dtype=weights)
        try:
            app = make_app(shelf, Key(api_key) if api_key is not None else None)
            settings = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", server_header=False,
                                      backlog=BACKLOG, timeout_graceful_shutdown=5)  # fmt: skip

            class Server(uvicorn.Server):
                async def shutdown(self, sockets: list[socket] | None = None) -> None:
                    await asyncio.to_thread(shelf.close)  # so that streams end with a word, and not cut off
                    await super().shutdown(sockets)

            told(address(host, listening), list(shelf.by_name), shelf.notes)
            Server(settings).run(sockets=[listening])
        finally:
            shelf.close()


def named(sources: Sequence[str], names: Sequence[str] = ()) -> dict[str, str]:
    """Names of what is served: a run's or model folder's own name, a model's name on the hub; `NAME=SOURCE` in `names`
    says it. Raises RecipeError for two of one name."""
    found: dict[str, str] = {}
    given = []
    for text in names:
        name, equals, source = text.partition("=")
        if not (name and equals and source):
            raise RecipeError(f"no NAME=RUN: {text!r}", where="--name", do="whet serve --name law=runs/a")
        given.append((name, source))
    for name, source in [*((_own_name(source), source) for source in sources), *given]:
        if name in found:
            raise RecipeError(
                f"two of the models have the name {name!r}: {found[name]} and {source}",
                do=f"name one of them: --name OTHER={source}",
            )
        found[name] = source
    if not found:
        raise RecipeError("nothing to serve", do="whet serve RUN, or whet serve whet-tiny")
    return found


def _own_name(source: str) -> str:
    path = Path(source).expanduser()
    return path.resolve().name if path.is_dir() else source
