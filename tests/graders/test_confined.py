"""Programs that try to get out of the box, use it up, or leave something behind."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from whet.errors import RecipeError
from whet.graders import confined as module
from whet.graders.confined import Box, Ended, Limits, allowed

Run = Callable[..., Any]


@pytest.fixture
def run(confined: Limits) -> Run:
    """run(program) -> what a Python program says at its end, by `said = ...`; an error as its text."""

    def program(source: str, **changes: Any) -> Any:
        limits = replace(confined, **changes)
        text = f"{source}\nraise RuntimeError(repr(said))"
        with Box(limits, {"kind": "code", "answer": text, "tests": ""}) as box:
            return str(box.result()["said"])

    return program


def test_no_socket_reaches_a_server_of_the_host(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connect = f"import socket; said = socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 1)"
        assert run(connect).startswith(("PermissionError", "OSError", "ConnectionRefusedError"))
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_no_socket_of_the_file_system_either(run: Run, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        connect = f"import socket; said = socket.socket(socket.AF_UNIX).connect({str(tmp_path / 's')!r})"
        assert "Error" in run(connect)


def test_the_namespace_alone_has_no_network(run: Run) -> None:
    """What is left where seccomp does not know the machine."""
    interfaces = run("said = [line.split(':')[0].strip() for line in open('/proc/net/dev').readlines()[2:]]")
    assert interfaces in (
        "RuntimeError: ['lo']",
        "FileNotFoundError: [Errno 2] No such file or directory: '/proc/net/dev'",
    )


def test_a_fork_bomb_stops_at_the_limit(run: Run, confined: Limits) -> None:
    bomb = (
        "import os, time\nsaid = 0\ntry:\n  while True:\n    if os.fork() == 0: time.sleep(60)\n    said += 1\n"
        "except BlockingIOError: pass"
    )
    assert 1 <= int(run(bomb).removeprefix("RuntimeError: ")) < confined.processes
    doubling = "import os\nwhile True: os.fork()"
    with Box(confined, {"kind": "code", "answer": doubling, "tests": ""}) as box:
        assert "BlockingIOError" in box.result()["said"]


def test_memory_is_limited(run: Run) -> None:
    assert run("said = len(bytearray(1 << 30))") == "MemoryError"
    assert run("said = len(bytearray(1 << 20))") == f"RuntimeError: {1 << 20}"


@pytest.mark.parametrize(
    "source", ["while True: pass", "import time; time.sleep(600)", "import os; os.kill(os.getpid(), 19)"]
)
def test_what_hangs_is_ended(confined: Limits, source: str) -> None:
    limits = replace(confined, seconds=0.3)
    with Box(limits, {"kind": "code", "answer": source, "tests": ""}) as box, pytest.raises(Ended, match=r"in 0\.3 s"):
        box.result()


def test_a_grandchild_that_leaves_its_group_is_gone_too(confined: Limits, tmp_path: Path) -> None:
    mark = f"whet-left-behind-{os.getpid()}"
    source = (
        "import os, subprocess, sys\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        f"        os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(600)', {mark!r}])\n"
        "    os._exit(0)\n"
        "import time; time.sleep(0.3)\n"
        "seen = [p for p in os.listdir('/proc') if p.isdigit() and "
        f"{mark!r} in open(f'/proc/{{p}}/cmdline').read()]\nraise RuntimeError(str(len(seen)))"
    )
    with Box(confined, {"kind": "code", "answer": source, "tests": ""}) as box:
        said = box.result()["said"]
    if not said.startswith("FileNotFoundError"):  # a container without a /proc of the namespace's own
        assert said == "RuntimeError: 1"  # it did start
    deadline = time.monotonic() + 5
    while _running(mark) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _running(mark)


def _running(mark: str) -> bool:
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and mark.encode() in (process / "cmdline").read_bytes():
                return True
        except OSError:
            continue
    return False


def test_files_can_be_neither_written_nor_large_nor_many(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    assert "Error" in run(f"import os; said = os.remove({str(tmp_path / 'mine')!r})")
    assert "Read-only file system" in run("import tempfile; said = open('/dev/shm/mine', 'w')")
    assert (tmp_path / "mine").read_text() == "mine"
    assert "File too large" in run("said = open('x', 'wb').write(b'0' * (8 << 20))")
    many = "for n in range(30): said = open(f'x{n}', 'wb').write(b'0' * (1 << 20))"
    assert "No space left" in run(many)
    assert run("said = open('x', 'w').write('small')") == "RuntimeError: 5"


def test_printing_a_gigabyte_reaches_no_one(run: Run) -> None:
    text = "text = 'x' * (1 << 24)\nfor _ in range(64): print(text)\nimport sys; said = sys.stderr.write(text)"
    assert run(text, seconds=30) == f"RuntimeError: {1 << 24}"


def test_a_result_too_long_ends_the_box(confined: Limits) -> None:
    source = (
        "import os\ndef grade(sample, item):\n    for fd in range(3, 20):\n        try:\n"
        "            while True: os.write(fd, b'x' * 4096)\n        except OSError: pass"
    )
    with Box(confined, {"kind": "python", "source": source}) as box:
        assert box.result() == {"ready": True}
        with pytest.raises(Ended, match="too much"):
            box.result({"sample": {}, "item": {}})


def test_the_environment_and_the_processes_of_the_host_are_not_seen(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHET_TEST_SECRET", "do-not-show")
    assert "SECRET" not in run("import os; said = sorted(os.environ)")
    read = f"said = open('/proc/{os.getpid()}/environ', 'rb').read()"
    assert run(read).startswith(("FileNotFoundError", "PermissionError"))
    parents = "import glob\nsaid = b''.join(open(p, 'rb').read() for p in glob.glob('/proc/[0-9]*/environ'))"
    assert "do-not-show" not in run(parents)


def test_the_users_home_is_not_seen_but_the_interpreter_is(run: Run) -> None:
    home = Path.home().resolve()
    if home == Path("/") or not home.is_dir() or Path(sys.prefix).is_relative_to(home):
        pytest.skip("there is no home apart from the interpreter")
    names = [path.name for path in home.iterdir()]
    seen = run(f"import os; said = os.listdir({str(home)!r})")
    kept = Path(sys.base_prefix).resolve()
    allowed_there = {kept.relative_to(home).parts[0]} if kept.is_relative_to(home) else set()
    assert all(repr(name) not in seen for name in set(names) - allowed_there)
    assert run("import decimal, numpy; said = int(numpy.arange(3).sum())") == "RuntimeError: 3"


def test_rights_do_not_come_back(run: Run) -> None:
    remount = (
        "import ctypes; c = ctypes.CDLL(None, use_errno=True)\n"
        "said = [c.mount(None, b'/', None, 32 | 4096, None), c.unshare(0x10000000 | 0x20000), "
        "c.mount(None, b'/', None, 32 | 4096, None)]"
    )
    found = run(remount)
    assert found.startswith("RuntimeError: [-1, ")
    assert found.endswith("-1]")


def test_a_process_that_goes_is_told_how(confined: Limits) -> None:
    for source, said in [("import os; os._exit(7)", "exit code 7"), ("import os; os.abort()", "SIGABRT")]:
        with Box(confined, {"kind": "code", "answer": source, "tests": ""}) as box, pytest.raises(Ended, match=said):
            box.result()


def test_many_boxes_at_once_leave_nothing(confined: Limits) -> None:
    found: list[Any] = []
    folders: list[Path] = []

    def one(number: int) -> None:
        with Box(confined, {"kind": "code", "answer": f"x = {number}", "tests": "assert x % 2 == 0"}) as box:
            folders.append(box.folder)
            found.append((number, box.result()["passed"]))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [(number, number % 2 == 0) for number in range(6)]
    assert len(set(folders)) == 6
    assert not any(folder.exists() for folder in folders)


def test_without_walls_a_program_is_refused_unless_the_network_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the kernel has no namespaces: here the system is said to be another one."""
    monkeypatch.setattr(module.sys, "platform", "other")
    with pytest.raises(RecipeError, match="allow_network: true"):
        allowed(Limits(), "graders.mine")


def test_with_limits_alone_a_program_still_ends(confined: Limits) -> None:
    """What `allow_network` leaves of the box where the kernel has no namespaces."""
    limits = replace(confined, network=True, namespaces=False, seconds=0.5)
    if reason := module._refusal(limits):
        pytest.skip(reason)  # whet runs as root, and nobody cannot read the interpreter
    for source, said in [
        ("x = bytearray(1 << 30)", "MemoryError"),
        ("open('x', 'wb').write(bytes(8 << 20))", "File too"),
    ]:
        with Box(limits, {"kind": "code", "answer": source, "tests": ""}) as box:
            assert said in box.result()["said"]
    endless = {"kind": "code", "answer": "while True: pass", "tests": ""}
    with Box(limits, endless) as box, pytest.raises(Ended):
        box.result()


def test_with_the_network_allowed_there_are_sockets(confined: Limits) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        source = f"import socket; socket.create_connection(('127.0.0.1', {port}), 1)"
        limits = replace(confined, network=True)
        with Box(limits, {"kind": "code", "answer": source, "tests": ""}) as box:
            assert box.result() == {"passed": True}
