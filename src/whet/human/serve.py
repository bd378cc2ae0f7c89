"""The server of a review: one process, one loop, a socket that is bound before anyone is told of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from whet.errors import MissingExtra
from whet.human.folder import Review, held
from whet.human.log import Log
from whet.human.plan import Judge
from whet.listen import BACKLOG, address, bound


def serve(
    review: Review,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    told: Callable[[Sequence[tuple[Judge, str]], Sequence[str]], None] = lambda links, notes: None,
) -> None:
    """Serve a review until a signal ends it. `told` hears each judge's link, and what is to be said, before the first
    request. `port` 0 takes a free one.

    Raises MissingExtra without FastAPI or uvicorn, RunError where another server holds the review or the port is taken.
    """
    try:
        import uvicorn

        from whet.human.server import Desk, make_app
    except ImportError as error:
        raise MissingExtra(error.name or "fastapi", "serve", "a review") from None
    with held(review) as (judgements, notes), bound(host, port) as listening:
        log = Log(review.log)
        app = make_app(Desk(review, log, judgements))
        # Without a log_config: setting one up closes the handlers of others, and absl's closes stderr with it.
        settings = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", server_header=False,
                                  backlog=BACKLOG, timeout_graceful_shutdown=5)  # fmt: skip
        where = address(host, listening)
        told([(judge, f"{where}/?token={judge.token}") for judge in review.judges], notes)
        try:
            uvicorn.Server(settings).run(sockets=[listening])
        finally:
            log.close()
