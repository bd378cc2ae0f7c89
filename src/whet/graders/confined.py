"""Programs that were not written here, run in a process apart: no network, no files, so much time and memory.

What it is: a Python process with an environment that holds nothing of the host's, in new user, PID, mount, IPC and
network namespaces (Linux 5.12 or newer; as `nobody` where whet runs as root), without capabilities.

It protects against what programs do by mistake, and what a model learns to do because it pays:

- the network: an empty network namespace; and socket(2) is refused (seccomp), so that services which listen at a path
  are out of reach too;
- endless loops and sleeps: wall clock and CPU time. The process is killed with all that it started, also what left its
  group, as process 1 of a PID namespace takes all others with it;
- memory (by process), fork bombs (processes and threads), open files, core dumps;
- files: everything is read-only but an empty folder in memory, whose size, and the size of each file, is limited; the
  user's home is not there, but for the interpreter where it lives in it;
- output: what is printed is thrown away, and a result is one line of a limited length;
- the host's environment and processes: neither is seen.

It does not protect against everything. Outside the home, files that this user may read (as root: that everyone may
read) can be read, though nothing can be sent anywhere. Memory is limited by process, so all allowed processes together
can use that many times as much. The kernel is shared: a fault in it is a way out, so what is meant to attack belongs on
a machine of its own. A program that knows this box can write its own result, and tests share a process with what they
test: a score that is too good deserves a look at the answers.

Where the kernel allows no user namespaces (many containers, some distributions), programs are refused with RecipeError,
unless `network` is allowed: then limits, time and an empty environment are all there is, and what leaves its process
group is left behind. On other systems than Linux they are refused.
"""

from __future__ import annotations

import json
import math
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

from whet.errors import RecipeError

LONGEST_LINE = 1 << 16
"""Bytes of a result."""
START = 10.0
"""Seconds for the interpreter to start, beside a program's own time."""
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Limits:
    """What a program may use. `seconds` for each request; memory for each process; `network` as the module says."""

    seconds: float = 5.0
    memory_mb: int = 1024
    processes: int = 32
    file_mb: int = 16
    disk_mb: int = 64
    network: bool = False
    namespaces: bool = True


class Ended(Exception):
    """The process gave no result: too slow, killed by a limit, gone, or it said too much."""


class Refused(Exception):
    """The box could not be made."""


class Box:
    """One confined process; a context manager. `first` says what runs in it (see box.py), `requests` how many are to
    come, which bounds its CPU time."""

    def __init__(self, limits: Limits, first: dict[str, Any], requests: int = 1) -> None:
        self.limits = limits
        self.folder = Path(tempfile.mkdtemp(prefix="whet-box-")).resolve()
        self._rest = b""
        self._give: bytes = _line(first)
        cpu = math.ceil(limits.seconds) * (requests + 1)
        settings = vars(limits) | _home() | {"folder": str(self.folder), "cpu_seconds": cpu}
        try:
            self.folder.chmod(0o755)  # so that `nobody` may enter; what is mounted on it is private
            if os.geteuid() == 0 and not limits.namespaces:
                os.chown(self.folder, 65534, 65534)
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(Path(__file__).with_name("box.py")), json.dumps(settings)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=self.folder,
                env=_ENVIRONMENT | {"HOME": str(self.folder)}, start_new_session=True, bufsize=0,
            )  # fmt: skip
        except OSError as error:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise Refused(f"no process could be started: {error}") from None
        os.set_blocking(self._stdin, False)
        os.set_blocking(self._stdout, False)

    def __enter__(self) -> Box:
        """Wait until it has begun. Raises Refused where the kernel does not allow the box, Ended where that takes too
        long."""
        try:
            self._next(START)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(ProcessLookupError, PermissionError):  # gone already
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _stdin(self) -> int:
        assert self._process.stdin is not None
        return self._process.stdin.fileno()

    @property
    def _stdout(self) -> int:
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def result(self, request: dict[str, Any] | None = None) -> dict[str, Any]:
        """The next line that the program says, after it was given `request`. Raises Ended, after which the box is of no
        more use."""
        if request is not None:
            self._give += _line(request)
        return self._next(self.limits.seconds)

    def _next(self, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as ready:
            ready.register(self._stdout, selectors.EVENT_READ)
            if self._give:
                ready.register(self._stdin, selectors.EVENT_WRITE)
            while b"\n" not in self._rest:
                left = deadline - time.monotonic()
                events = ready.select(left) if left > 0 else []
                if not events:
                    raise Ended(f"no result in {seconds:g} s")
                for key, _ in events:
                    if key.fd == self._stdout:
                        self._read()
                    elif not self._write():
                        ready.unregister(self._stdin)
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Ended("what it said is no result")
        if "refused" in found:
            raise Refused(str(found["refused"]))
        return found

    def _read(self) -> None:
        piece = os.read(self._stdout, LONGEST_LINE)
        if not piece:
            raise Ended(self._how())
        self._rest += piece
        if len(self._rest) > LONGEST_LINE:
            raise Ended("it said too much")

    def _write(self) -> bool:
        """Write what can be written; whether something is left."""
        try:
            self._give = self._give[os.write(self._stdin, self._give[: 1 << 16]) :]
        except BlockingIOError:
            return True
        except OSError:  # it ended, and reading will say so
            self._give = b""
        return bool(self._give)

    def _how(self) -> str:
        try:
            code = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return "it closed its result"
        number = -code if code < 0 else code - 128
        name = signal.Signals(number).name if number in set(signal.Signals) else ""
        if name in ("SIGXCPU", "SIGKILL"):
            return f"it was ended ({name}): its CPU time was over, or its memory"
        return f"it was ended ({name})" if name else f"it ended with exit code {code} and no result"


@lru_cache(maxsize=1)
def _home() -> dict[str, Any]:
    """The user's home, which is hidden, and what of it is kept: the interpreter and its packages. "" for no home."""
    try:
        home = Path.home().resolve()
    except (OSError, RuntimeError):
        return {"home": "", "kept": []}
    if home == Path("/") or not home.is_dir():
        return {"home": "", "kept": []}
    places = {Path(place).resolve() for place in (sys.prefix, sys.base_prefix)}
    if any(home.is_relative_to(place) for place in places):  # the interpreter is around the home
        return {"home": "", "kept": []}
    return {"home": str(home), "kept": sorted(str(place) for place in places if place.is_relative_to(home))}


def _line(tree: dict[str, Any]) -> bytes:
    return json.dumps(tree, default=str).encode() + b"\n"


def allowed(limits: Limits, where: str) -> Limits:
    """The limits as they can be kept here, found by making a box. Raises RecipeError where none can be made."""
    reason = _refusal(limits)
    if not reason:
        return limits
    if limits.network:
        limits = replace(limits, namespaces=False)
        reason = _refusal(limits)
        if not reason:
            return limits
    do = (
        "run whet where user namespaces are allowed and as a user who can read the interpreter, or write "
        "`allow_network: true`, which runs programs without walls: only ones that you have read"
    )
    raise RecipeError(f"programs cannot be confined on this machine: {reason}", where=where, do=do)


def _refusal(limits: Limits) -> str:
    """Why there can be no such box; "" for none."""
    if not sys.platform.startswith("linux"):
        return "only Linux has what it takes"
    try:
        with Box(limits, {}):
            pass
    except (Ended, Refused) as error:
        return str(error)
    return ""
