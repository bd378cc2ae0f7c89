"""judgements.jsonl: a line a judgement, only ever added to, on the disk before the judge hears of it.

One thread writes. Whatever waits for it is written together and synced once, so that many judges at a time cost one
sync and none of them stops the server.
"""

from __future__ import annotations

import json
import os
import queue
import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from whet.errors import RowError, StorageError
from whet.human.plan import VERDICTS

NAME = "judgements.jsonl"
TORN = "torn.bin"


@dataclass(frozen=True)
class Judgement:
    """What a judge said of an item. `left` is the answer (0 or 1) that stood at the left; `edits` and `ratings` are by
    answer. `seconds` from the page to the judgement, None where they are not known."""

    time: str
    judge: str
    item: str
    verdict: str
    left: int
    reason: str = ""
    edits: dict[str, str] = field(default_factory=dict)
    ratings: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: float | None = None

    @property
    def preferred(self) -> int | None:
        """The answer that is better, 0 or 1; None where neither is."""
        return {"left": self.left, "right": 1 - self.left}.get(self.verdict)


def read_log(path: Path) -> tuple[list[Judgement], int]:
    """All judgements in order, and how many bytes at the end are no whole line: what a crash left of the last write,
    which no judge was told of. Raises RowError for a broken line that is not the last."""
    if not path.exists():
        return [], 0
    *lines, rest = path.read_bytes().split(b"\n")
    found: list[Judgement] = []
    for number, line in enumerate(lines, 1):
        judgement = _parsed(line)
        if judgement is not None:
            found.append(judgement)
        elif number == len(lines) and not rest:
            return found, len(line) + 1
        else:
            raise RowError(
                "no judgement", where=f"{path}:{number}", do="the log was changed by hand: mend or delete the line"
            )
    return found, len(rest)


def _parsed(line: bytes) -> Judgement | None:
    try:
        judgement = Judgement(**json.loads(line))
    except (ValueError, TypeError):
        return None
    return judgement if judgement.verdict in VERDICTS and judgement.left in (0, 1) else None


def set_aside(path: Path, torn: int) -> None:
    """Move the last `torn` bytes of the log to the end of torn.bin. Only for who holds the review."""
    with path.open("r+b") as log:
        log.seek(-torn, os.SEEK_END)
        whole = log.tell()
        with path.with_name(TORN).open("ab") as aside:
            aside.write(log.read() + b"\n")
            aside.flush()
            os.fsync(aside.fileno())
        log.truncate(whole)
        os.fsync(log.fileno())


class Log:
    """Adds to the log. `close` waits for what was given."""

    def __init__(self, path: Path):
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            self._size = os.fstat(self._file).st_size
            _sync_folder(path.parent)
        except OSError as error:
            raise StorageError(str(error.strerror), where=str(path), do="check who may write there") from None
        self._path = path
        self._waiting: queue.SimpleQueue[tuple[bytes, Future[None]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="judgements", daemon=True)
        self._thread.start()

    def add(self, judgement: Judgement) -> Future[None]:
        """Done when it is on the disk; StorageError in it where it could not be written, and then no part of it is."""
        done: Future[None] = Future()
        plain: dict[str, Any] = {key: value for key, value in asdict(judgement).items() if value not in ("", {}, None)}
        self._waiting.put((json.dumps(plain).encode() + b"\n", done))
        return done

    def close(self) -> None:
        self._waiting.put(None)
        self._thread.join()
        os.close(self._file)

    def _write(self) -> None:
        ended = False
        while not ended:
            batch = [self._waiting.get()]
            while not self._waiting.empty():
                batch.append(self._waiting.get())
            ended = None in batch
            given = [each for each in batch if each is not None]
            if given:
                failed = self._written(b"".join(line for line, _ in given))
                for _, done in given:
                    done.set_exception(failed) if failed else done.set_result(None)

    def _written(self, lines: bytes) -> StorageError | None:
        try:
            os.ftruncate(self._file, self._size)  # without what a write that failed has left
            rest = memoryview(lines)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
            return StorageError(f"cannot be written: {error.strerror}", where=str(self._path), do="free some space")
        self._size += len(lines)
        return None


def _sync_folder(folder: Path) -> None:
    """So that the file's name survives a crash as well."""
    handle = os.open(folder, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
