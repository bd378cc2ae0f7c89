"""Answers of a model behind an OpenAI-compatible endpoint, or of one that is lent: many at once, in order.

What can pass is retried with back-off: silence, 429, 5xx, answers that are none. What stays a failure is the answer's
`fault`, and the others go on. Answers are kept on disk by a hash of the request, so that nothing is paid for twice.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import queue
import random
import re
import threading
import time
import urllib.error
import urllib.request
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from email.utils import parsedate_to_datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from whet.errors import ModelError, RecipeError, StorageError
from whet.recipe.endpoint import EndpointPart

LONGEST_WAIT = 60.0
"""Seconds between two tries, whatever back-off or Retry-After say."""
LARGEST = 8 << 20
"""Bytes of an answer; more is no chat completion."""
GIVE_UP = 20
"""After so many failures in a row the endpoint is not asked any more, and the rest is told as not asked."""
AT_ONCE = 64
"""Prompts that a lent model gets together."""

Request = dict[str, Any]
"""`messages`, and what else of the body is this request's own."""
T = TypeVar("T")
R = TypeVar("R")


class Answer(NamedTuple):
    """What a model said, or why there is nothing; `down` where the endpoint failed and not its answer."""

    text: str
    fault: str = ""
    down: bool = False


class Model(Protocol):
    """Who is asked. `counts` are figures for the ledger."""

    counts: Counter[str]

    def ask(self, tasks: Iterable[T], requests: Callable[[T], list[Request]]) -> Iterator[tuple[T, list[Answer]]]:
        """Each task with an answer to each of its requests, in order."""


class Lent:
    """The service `generate`: (prompts, **settings) -> texts."""

    def __init__(self, generate: Callable[..., list[str]], **settings: Any) -> None:
        self.generate, self.settings = generate, settings
        self.counts: Counter[str] = Counter()

    def ask(self, tasks: Iterable[T], requests: Callable[[T], list[Request]]) -> Iterator[tuple[T, list[Answer]]]:
        """As Model has it. Prompts go in batches."""
        tasks = iter(tasks)
        while batch := list(islice(tasks, AT_ONCE)):
            asked = [[_plain(request) for request in requests(task)] for task in batch]
            texts = iter(self.generate([prompt for prompts in asked for prompt in prompts], **self.settings))
            for task, prompts in zip(batch, asked, strict=True):
                self.counts["asked"] += len(prompts)
                yield task, [_answer(text) for text in islice(texts, len(prompts))]


def _plain(request: Request) -> str:
    return "\n\n".join(message["content"] for message in request["messages"])


def _answer(text: str) -> Answer:
    return Answer(text) if text.strip() else Answer("", "empty answer")


class _Again(Exception):
    """A failure that may pass; after so many seconds, if the endpoint says. `down` as Answer has it."""

    def __init__(self, reason: str, wait: float | None = None, down: bool = True) -> None:
        super().__init__(reason)
        self.reason, self.wait, self.down = reason, wait, down


class _Never(Exception):
    """A request that will fail each time."""


class Endpoint:
    """`url` ends in /v1; `settings` are what all requests have: model, temperature, max_tokens.

    `cache` is a file of lines {"request": hash, "answer": text}, which may be deleted at any time. `key` is sent as
    a bearer token and stands nowhere else. `backoff` seconds is the first wait, doubled by each further one. An answer
    of which `sensible` is not true counts as none.
    """

    def __init__(
        self, url: str, settings: dict[str, Any], *, key: str = "", concurrency: int = 4, timeout: float = 60,
        retries: int = 4, backoff: float = 0.5, cache: Path | None = None, sensible: Callable[[str], Any] = str.strip,
    ) -> None:  # fmt: skip
        self.url, self.settings, self.key = f"{url.rstrip('/')}/chat/completions", settings, key
        self.concurrency, self.timeout, self.retries, self.backoff = concurrency, timeout, retries, backoff
        self.counts: Counter[str] = Counter()
        self.says = ""
        self.sensible, self._cache = sensible, _Cache(cache)
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._failed_in_a_row = 0
        self._open = urllib.request.build_opener(_NoRedirect).open

    @classmethod
    def of(
        cls, part: EndpointPart, where: str, cache: Path | None = None, sensible: Callable[[str], Any] = str.strip
    ) -> Endpoint:
        """That of a recipe's part. Raises RecipeError, of `where`, where the key is not where it is said to be."""
        name = part.api_key_env
        if name and not os.environ.get(name):
            what = "the environment variable that `api_key_env` names is not set"  # its name may be a key by mistake
            raise RecipeError(what, where=where, do="export it, and give its name, never the key")
        return cls(
            part.endpoint, part.body(), key=os.environ[name] if name else "", concurrency=part.concurrency,
            timeout=part.timeout, retries=part.retries, backoff=part.backoff, cache=cache, sensible=sensible,
        )  # fmt: skip

    def ask(self, tasks: Iterable[T], requests: Callable[[T], list[Request]]) -> Iterator[tuple[T, list[Answer]]]:
        """As Model has it. Raises ModelError where no request can be taken: wrong key, address or model."""

        def answers(task: T) -> list[Answer]:
            return [self.answer(request) for request in requests(task)]

        try:
            yield from in_order(answers, tasks, self.concurrency)
        finally:
            self._stop.set()
            self._cache.close()

    def answer(self, request: Request) -> Answer:
        """The answer to one request, from the cache or from the endpoint."""
        body = _dumps(self.settings | request)
        digest = hashlib.blake2b(self.url.encode() + b"\n" + body, digest_size=16).hexdigest()
        known = self._cache.known.get(digest)
        if known is not None:
            self._count("from cache")
            return Answer(known)
        reason, down = "", False
        for attempt in range(self.retries + 1):
            if self._stop.is_set() or self._failed_in_a_row >= GIVE_UP:
                return Answer("", f"not asked: the endpoint failed {GIVE_UP} times in a row", down=True)
            self._count("retried" if attempt else "asked")
            try:
                text = self._post(body)
                if not self.sensible(text):
                    raise _Again("not what was asked for", down=False)
            except _Again as error:
                reason, down = error.reason, error.down
                wait = self.backoff * 2**attempt * (0.5 + random.random()) if error.wait is None else error.wait
                if attempt < self.retries:
                    self._stop.wait(min(wait, LONGEST_WAIT))
            except _Never as error:
                return self._failed(str(error))
            else:
                self._failed_in_a_row = 0
                self._cache.put(digest, text)
                return Answer(text)
        return self._failed(reason, down)

    def _failed(self, reason: str, down: bool = False) -> Answer:
        with self._lock:
            self._failed_in_a_row += 1
        return Answer("", reason, down)

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def _post(self, body: bytes) -> str:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "whet"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        deadline = time.monotonic() + self.timeout
        try:
            request = urllib.request.Request(self.url, body, headers, method="POST")
            with self._open(request, timeout=self.timeout) as response:
                return content_of(_read(response, deadline))
        except urllib.error.HTTPError as error:
            with error:
                self._refused(error)
            raise
        except TimeoutError:
            raise _Again(f"no answer in {self.timeout:g} s") from None
        except urllib.error.URLError as error:
            late = isinstance(error.reason, TimeoutError)
            raise _Again(f"no answer in {self.timeout:g} s" if late else "no connection") from None
        except (OSError, http.client.HTTPException):
            raise _Again("the connection broke off") from None

    def _refused(self, error: urllib.error.HTTPError) -> None:
        """Raises what a status other than 200 comes to."""
        if error.code in (408, 409, 425, 429) or error.code >= 500:
            raise _Again(f"HTTP {error.code}", retry_after(error.headers.get("Retry-After"))) from None
        try:
            said = _message(error.read(LARGEST))
        except (OSError, http.client.HTTPException):
            said = ""
        self.says = self.says or (said.replace(self.key, "***") if self.key else said)
        if error.code in (400, 413, 422):
            raise _Never(f"HTTP {error.code}") from None
        raise ModelError(
            f"HTTP {error.code} {error.reason}{': ' if self.says else ''}{self.says}", where=self.url,
            do="check `endpoint`, `model`, and the key in the environment variable that `api_key_env` names",
        ) from None  # fmt: skip


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would lose its body and could carry the key to another host."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _read(response: http.client.HTTPResponse, deadline: float) -> bytes:
    """The body, within the time for the whole answer and not only for each piece of it."""
    body = b""
    while piece := response.read1(1 << 16):
        body += piece
        if len(body) > LARGEST:
            raise _Again("an answer that is no chat completion")
        if time.monotonic() > deadline:
            raise TimeoutError
    return body


def content_of(body: bytes) -> str:
    """The text of a chat completion, without what a reasoning model thinks aloud before it."""
    try:
        choice = json.loads(body)["choices"][0]
        text, ended = choice["message"]["content"], choice.get("finish_reason")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise _Again("an answer that is no chat completion") from None
    if ended == "length":
        raise _Never("cut off at max_tokens")
    text = re.sub(r"(?s)^\s*<think>.*?</think>", "", text) if isinstance(text, str) else ""
    if not text.strip():
        raise _Again("empty answer", down=False)
    return text


def _dumps(tree: dict[str, Any]) -> bytes:
    """The same bytes for the same tree."""
    return json.dumps(tree, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def _message(body: bytes) -> str:
    try:
        found = json.loads(body)
        found = found.get("error", found)
        return str(found.get("message", "") if isinstance(found, dict) else found)[:300]
    except (ValueError, AttributeError):
        return ""


def retry_after(header: str | None) -> float | None:
    """Seconds that a Retry-After header asks for: a number or a date (RFC 9110, 10.2.3); None where it says nothing."""
    if not header:
        return None
    try:
        return max(float(header), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(header).timestamp() - time.time(), 0.0)
    except ValueError:
        return None


def in_order(function: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[tuple[T, R]]:
    """Each item with `function` of it, in order; so many at work at once, and a few more taken ahead.

    The threads are daemons, which an executor's are not: a program that is stopped does not wait for answers.
    """
    todo: queue.SimpleQueue[tuple[T, Future[R]] | None] = queue.SimpleQueue()
    ahead: deque[tuple[T, Future[R]]] = deque()

    def work() -> None:
        while (job := todo.get()) is not None:
            try:
                job[1].set_result(function(job[0]))
            except BaseException as error:  # raised again by whoever takes the result
                job[1].set_exception(error)

    for _ in range(workers):
        threading.Thread(target=work, name="whet-asks", daemon=True).start()
    try:
        for item in items:
            ahead.append((item, Future()))
            todo.put(ahead[-1])
            if len(ahead) >= 4 * workers:
                first, result = ahead.popleft()
                yield first, result.result()
        while ahead:
            first, result = ahead.popleft()
            yield first, result.result()
    finally:
        for _ in range(workers):
            todo.put(None)


class _Cache:
    """Answers by request, in a file that only grows. A line that was cut off is passed over."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.known = path, dict[str, str]()
        self._lock, self._file = threading.Lock(), None
        if path is None:
            return
        try:
            before = path.read_bytes() if path.exists() else b""
            self._file = path.open("ab", buffering=0)
            if before and not before.endswith(b"\n"):
                self._file.write(b"\n")
        except OSError as error:
            what = f"cannot be written: {error.strerror}"
            raise StorageError(what, where=str(path), do="name another `cache`") from None
        for line in before.splitlines():
            try:
                entry = json.loads(line)
                self.known[entry["request"]] = entry["answer"]
            except (ValueError, LookupError, TypeError):
                continue

    def put(self, request: str, answer: str) -> None:
        with self._lock:
            self.known[request] = answer
            if self._file is not None and not self._file.closed:
                self._file.write(_dumps({"request": request, "answer": answer}) + b"\n")

    def close(self) -> None:
        if self.path is not None and self._file is not None:
            self._file.close()
            if not self.path.stat().st_size:
                self.path.unlink()
