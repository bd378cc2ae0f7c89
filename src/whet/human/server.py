"""The pages that judges see. What a page needs is in whet.human.view; here is who may see it, and what a judgement must
have to be taken.

A judge is known by a token: once in the link, from then on in a cookie that no script reads. Nothing that a browser is
sent tells a model's name, or a check from any other pair.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse

from whet.errors import StorageError
from whet.human.folder import Review
from whet.human.log import Judgement, Log
from whet.human.plan import VERDICTS, Item, Judge
from whet.human.view import home_page, item_page, message_page, same_text
from whet.look import css

MOST_BYTES = 16 * 2**20
"""Of a judgement with its edits."""
LONGEST_REASON = 10_000
"""Characters."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
STATIC = {"htmx.min.js": "text/javascript", "review.js": "text/javascript", "review.css": "text/css"}


class Refused(Exception):
    """A request that is not answered with what it asks for: a status, and a plain page that says why."""

    def __init__(self, status: int, title: str, text: str):
        self.status, self.title, self.text = status, title, text


class Desk:
    """The review at work: its judges by token, and each one's last judgement of each item."""

    def __init__(self, review: Review, log: Log, judgements: list[Judgement]):
        self.review, self.log = review, log
        self.last = {(each.judge, each.item): each for each in judgements}
        self.cookie = "whet-review-" + _hashed(review.judges[0].token)[:8]  # reviews on one host keep apart
        self._by_token = {_hashed(judge.token): judge for judge in review.judges}

    def judge(self, request: Request) -> Judge:
        """Whose request it is. Raises Refused."""
        judge = self._by_token.get(_hashed(request.cookies.get(self.cookie, "")))
        if judge is None:
            raise Refused(401, "Who is there?", "This page needs your own link: open it as it was given to you.")
        return judge

    def by_token(self, token: str) -> Judge:
        judge = self._by_token.get(_hashed(token))
        if judge is None:
            raise Refused(401, "This link opens nothing", "Its token is none of this review: is the link complete?")
        return judge

    def item(self, judge: Judge, name: str) -> Item:
        """The judge's item of that name. Raises Refused, in the same words whether it is another's or nobody's."""
        if name not in judge.items:
            raise Refused(403, "Not one of yours", "This pair is not among those that you were asked to judge.")
        return self.review.items[name]

    def of(self, judge: Judge) -> dict[str, Judgement]:
        return {item: self.last[judge.name, item] for item in judge.items if (judge.name, item) in self.last}

    def next(self, judge: Judge, after: str | None = None) -> str | None:
        """The first item without a judgement, from the one after `after` on and round; None where all have one."""
        start = judge.items.index(after) + 1 if after else 0
        order = judge.items[start:] + judge.items[:start]
        return next((item for item in order if (judge.name, item) not in self.last), None)


def make_app(desk: Desk) -> FastAPI:
    """The application; it keeps `desk` up to date."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    contents = {name: files("whet.human").joinpath("static", name).read_bytes() for name in STATIC}
    contents["review.css"] = css().encode() + contents["review.css"]

    @app.middleware("http")
    async def headers(request: Request, call_next: Any) -> Response:
        answer: Response = await call_next(request)
        answer.headers.update(HEADERS)
        return answer

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return _page(message_page(error.title, error.text), error.status)

    @app.exception_handler(404)
    async def missing(request: Request, error: Any) -> Response:
        return _page(message_page("Nothing here", "This page is not part of the review."), 404)

    @app.get("/static/{name}")
    async def static(name: str) -> Response:
        if name not in contents:
            raise Refused(404, "Nothing here", "This page is not part of the review.")
        return Response(contents[name], media_type=STATIC[name])

    @app.get("/favicon.ico")
    async def icon() -> Response:
        return Response(status_code=204)

    @app.get("/")
    async def home(request: Request, token: str | None = None) -> Response:
        if token is not None:
            known = desk.by_token(token)
            # A page that goes on by itself, and no redirect: after a link on another site the browser would send a
            # redirect without the strict cookie.
            answer = _page(message_page("One moment", "Your review opens.", onward="/"))
            answer.headers["Refresh"] = "0; url=/"
            answer.set_cookie(desk.cookie, known.token, httponly=True, samesite="strict", max_age=90 * 86400)
            return answer
        judge = desk.judge(request)
        return _page(home_page(desk.review, judge, desk.of(judge), desk.next(judge)))

    @app.get("/item/{name}")
    async def show(request: Request, name: str) -> Response:
        judge = desk.judge(request)
        item = desk.item(judge, name)
        return _page(item_page(desk.review, judge, item, desk.of(judge), time.time()))

    @app.post("/item/{name}")
    async def take(request: Request, name: str) -> Response:
        judge = desk.judge(request)
        item = desk.item(judge, name)
        _same_origin(request)
        form = await _form(request)
        judgement, fault = judged(desk.review, judge, item, form)
        if fault:
            return _page(item_page(desk.review, judge, item, desk.of(judge), time.time(), fault, judgement), 422)
        try:
            await asyncio.wrap_future(desk.log.add(judgement))
        except StorageError as error:
            raise Refused(507, "Not saved", f"The judgement could not be written ({error.what}). Tell whoever runs the "
                          "review; then judge this pair again.") from None  # fmt: skip
        desk.last[judge.name, item.id] = judgement
        then = desk.next(judge, item.id)
        return RedirectResponse(f"/item/{then}" if then else "/", 303)

    return app


def judged(review: Review, judge: Judge, item: Item, form: Mapping[str, str]) -> tuple[Judgement, str]:
    """The judgement that a form holds, and what it lacks in words ("" where nothing)."""
    left = review.left(judge, item)
    answer_at = {"left": left, "right": 1 - left}
    verdict = form.get("verdict", "")
    edits = {
        str(answer): form[f"edit-{side}"]
        for side, answer in answer_at.items()
        if f"edit-{side}" in form and not same_text(form[f"edit-{side}"], item.answers[answer])
    }
    ratings: dict[str, dict[str, int]] = {}
    for side, answer in answer_at.items():
        for number, question in enumerate(review.rubric):
            given = form.get(f"rate-{side}-{number}", "")
            if re.fullmatch("[1-5]", given):
                ratings.setdefault(str(answer), {})[question.key] = int(given)
    made = Judgement(
        datetime.now(UTC).isoformat(timespec="milliseconds"), judge.name, item.id,
        verdict if verdict in VERDICTS else "skip", left, form.get("reason", "").strip()[:LONGEST_REASON],
        edits, ratings, _seconds(form.get("shown", "")),
    )  # fmt: skip
    if verdict not in VERDICTS:
        return made, "Choose one of the five."
    if verdict != "skip" and sum(map(len, ratings.values())) < 2 * len(review.rubric):
        return made, "Rate both answers by each question first."
    if any(not text.strip() for text in edits.values()):
        return made, "An edited answer is empty. Restore it, or write one."
    return made, ""


def _seconds(shown: str) -> float | None:
    """Since the page was made; None for what no page says."""
    try:
        seconds = time.time() - float(shown)
    except ValueError:
        return None
    return round(seconds, 2) if 0 <= seconds < 86400 else None


def _same_origin(request: Request) -> None:
    """A cookie is sent from any port of this host, so a form of another page could use it."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise Refused(403, "Not from here", "Judgements are taken from the pages of this review alone.")


async def _form(request: Request) -> dict[str, str]:
    """A URL-encoded body's fields, the last of each name. Line ends are those of Unix."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise Refused(413, "Too long", f"A judgement with its edits has at most {MOST_BYTES:,} bytes.")
    try:
        fields = parse_qs(body.decode("ascii", "replace"), keep_blank_values=True, max_num_fields=1000)
    except ValueError:
        raise Refused(400, "Not understood", "This is no judgement from a page of this review.") from None
    return {name: values[-1].replace("\r\n", "\n") for name, values in fields.items()}


def _page(text: str, status: int = 200) -> Response:
    return Response(text, status, media_type="text/html; charset=utf-8")


def _hashed(token: str) -> str:
    """So that no comparison's time tells how much of a token is right."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
