"""The inside of a confined process: started by `confined.py` as a script, `python -I box.py SETTINGS`; imports nothing
of whet. What it protects against is told there.

Three processes: the outermost enters new namespaces and waits; the second is process 1 of the new PID namespace, makes
the mounts, and takes everything with it when it ends; the third gives up what is left of its rights and runs the
program. Requests come on standard input, a JSON object a line; results go to what was standard output, one line each.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import signal
import struct
import sys
import types
from collections.abc import Callable
from typing import Any, NoReturn

NOBODY = 65534
SAID = 300
"""Characters of a message that are passed on."""

# linux/sched.h, linux/mount.h, linux/prctl.h, linux/seccomp.h, asm-generic/unistd.h
_NEW_MOUNTS, _NEW_IPC, _NEW_USER, _NEW_PIDS, _NEW_NET = 0x20000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT, _MS_BIND = 1, 2, 4, 32, 4096
_MS_REC, _MS_PRIVATE = 16384, 1 << 18
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE, _ATTR_RDONLY, _ATTR_NOSUID = 442, -100, 0x8000, 1, 2
_PDEATHSIG, _SECCOMP, _NO_NEW_PRIVS = 1, 22, 38
_SOCKET = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
"""(audit architecture, number of socket(2)) by machine."""
_IO_URING_SETUP = 425

Reply = Callable[..., None]


class _Refused(Exception):
    """The kernel did not allow a step of the confinement."""


def main() -> None:
    settings = json.loads(sys.argv[1])
    results = os.dup(1)

    def reply(**line: Any) -> None:
        os.write(results, json.dumps(line, default=str).encode() + b"\n")

    try:
        _enter(settings)
        _run_inside(settings, reply)
    except (_Refused, OSError, ImportError) as error:
        reply(refused=str(error))
        os._exit(3)


def _enter(settings: dict[str, Any]) -> None:
    """Leave the host's namespaces. A helper that stays behind says who is who in the new one: the user alone, or, where
    that is root, root and nobody."""
    if not settings["namespaces"]:
        return
    libc, me, uid, gid = _libc(), os.getpid(), os.getuid(), os.getgid()
    libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    waiting, go = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(go)
        if os.read(waiting, 1):
            both = f"\n{NOBODY} {NOBODY} 1" if uid == 0 else ""
            if uid != 0:
                _write(f"/proc/{me}/setgroups", "deny")
            _write(f"/proc/{me}/uid_map", f"{uid} {uid} 1{both}")
            _write(f"/proc/{me}/gid_map", f"{gid} {gid} 1{both}")
        os._exit(0)
    os.close(waiting)
    flags = _NEW_USER | _NEW_PIDS | _NEW_MOUNTS | _NEW_IPC | (0 if settings["network"] else _NEW_NET)
    _must(libc.unshare(flags), "unshare")
    os.write(go, b".")
    os.close(go)
    if os.waitpid(helper, 0)[1] != 0:
        raise _Refused("the user could not be mapped into a namespace")


def _run_inside(settings: dict[str, Any], reply: Reply) -> NoReturn:
    if not settings["namespaces"]:
        _program(settings, reply)
    init = os.fork()
    if init == 0:
        try:
            _libc().prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            _mounts(settings)
            program = os.fork()
            if program == 0:
                _program(settings, reply)
        except (_Refused, OSError, ImportError) as error:
            reply(refused=str(error))
            os._exit(3)
        _wait_as_init(program)
    os.close(0)
    _, status = os.waitpid(init, 0)
    os._exit(_code(status))


def _wait_as_init(program: int) -> NoReturn:
    """Reap whatever ends, until the program has; then everything else in the namespace is killed with this process."""
    while True:
        ended, status = os.wait()
        if ended == program:
            os._exit(_code(status))


def _code(status: int) -> int:
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _mounts(settings: dict[str, Any]) -> None:
    """All there is, read-only, without the user's home but for the interpreter; an empty folder in memory to work in;
    only this namespace's processes in /proc; nothing in /run, where services keep the sockets that they listen at."""
    libc, work, home = _libc(), settings["folder"], settings["home"]

    def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> int:
        names = [os.fsencode(name) if name else None for name in (source, target, kind)]
        return int(libc.mount(*names, flags, options.encode() or None))

    _must(mount("none", "/", None, _MS_REC | _MS_PRIVATE), "mount --make-rprivate /")
    attributes = struct.pack("QQQQ", _ATTR_RDONLY | _ATTR_NOSUID, 0, 0, 0)
    done = libc.syscall(_MOUNT_SETATTR, _AT_FDCWD, b"/", _AT_RECURSIVE, attributes, len(attributes))
    _must(done, "mount_setattr (Linux 5.12)")
    sealed = _MS_NOSUID | _MS_NODEV
    if home:
        kept = [(path, os.open(path, os.O_PATH)) for path in settings["kept"]]
        _must(mount("tmpfs", home, "tmpfs", sealed, "size=1m,mode=0755"), "mount over the home")
        for path, opened in kept:
            os.makedirs(path, exist_ok=True)
            _must(mount(f"/proc/self/fd/{opened}", path, None, _MS_BIND | _MS_REC), "mount of the interpreter")
            os.close(opened)
        os.makedirs(work, exist_ok=True)  # where the home is also the place of temporary files
        _must(mount("none", home, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | sealed), "mount over the home")
    owner = NOBODY if os.getuid() == 0 else os.getuid()
    options = f"size={settings['disk_mb']}m,nr_inodes=4096,mode=0700,uid={owner}"
    _must(mount("tmpfs", work, "tmpfs", sealed, options), "mount of a folder in memory")
    if os.path.isdir("/run"):
        _must(mount("tmpfs", "/run", "tmpfs", sealed | _MS_RDONLY, "size=4k"), "mount on /run")
    if mount("proc", "/proc", "proc", sealed) != 0:
        # refused where a container masks parts of /proc: then none at all
        _must(mount("tmpfs", "/proc", "tmpfs", sealed | _MS_RDONLY, "size=4k"), "mount on /proc")
    os.chdir(work)


def _program(settings: dict[str, Any], reply: Reply) -> NoReturn:
    libc = _libc()
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    _limit(settings)
    libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    if settings["namespaces"]:
        _drop_capabilities(libc)
    if not settings["network"]:
        _deny_sockets(libc)
    requests = os.fdopen(os.dup(0), "rb")
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    sys.argv = ["program"]
    import decimal  # noqa: F401 (whether this user can read the interpreter's library)

    reply(begun=True)
    first = json.loads(requests.readline())
    {"python": _python, "code": _answered_code}[first["kind"]](first, requests, reply)
    os._exit(0)


def _limit(settings: dict[str, Any]) -> None:
    bytes_, cpu = settings["memory_mb"] << 20, settings["cpu_seconds"]
    limits = {
        resource.RLIMIT_AS: bytes_, resource.RLIMIT_CPU: cpu, resource.RLIMIT_FSIZE: settings["file_mb"] << 20,
        resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: 256,
    }  # fmt: skip
    if settings["namespaces"]:  # counted by user: elsewhere the user's other processes would count too
        limits[resource.RLIMIT_NPROC] = settings["processes"]
    for kind, limit in limits.items():
        hard = resource.getrlimit(kind)[1]
        least = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (least, least))


def _drop_capabilities(libc: Any) -> None:
    """The new user namespace gave all of them, among others the right to make mounts writable again."""
    header = struct.pack("Ii", 0x20080522, 0)
    _must(libc.capset(header, struct.pack("IIIIII", *[0] * 6)), "capset")


def _deny_sockets(libc: Any) -> None:
    """socket(2) fails with EPERM (seccomp): a path in the file system may lead to a service in spite of an empty
    network namespace. Socket pairs remain. Where the machine's numbers are not known the namespace is the only wall."""
    known = _SOCKET.get(platform.machine())
    if known is None:
        return
    architecture, socket = known
    load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06
    kill, deny, allow = 0x80000000, 0x00050001, 0x7FFF0000
    steps = [
        (load, 0, 0, 4), (equal, 1, 0, architecture), (give, 0, 0, kill),
        (load, 0, 0, 0), (at_least, 3, 0, 0x40000000), (equal, 2, 0, socket), (equal, 1, 0, _IO_URING_SETUP),
        (give, 0, 0, allow), (give, 0, 0, deny),
    ]  # fmt: skip
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    _must(libc.prctl(_SECCOMP, 2, program, 0, 0), "seccomp")


# Programs ------------------------------------------------------------------------------------------------------------


def _python(first: dict[str, Any], requests: Any, reply: Reply) -> None:
    """`source` once, then `grade(sample, item)` for each request."""
    space: dict[str, Any] = {"__name__": "grader"}
    try:
        exec(compile(first["source"], "<source>", "exec"), space)
        if not callable(space.get("grade")):
            raise NameError("no function `grade(sample, item)`")
    except BaseException as error:
        return reply(broken=_said(error))
    reply(ready=True)
    for line in requests:
        request = json.loads(line)
        try:
            found = space["grade"](request["sample"], request["item"])
            reply(score=float(found))
        except BaseException as error:
            reply(fault=_said(error))
    return None


def _answered_code(first: dict[str, Any], requests: Any, reply: Reply) -> None:
    """The answer's code, then the row's tests in the same namespace: passed where both come to their end. An answer
    that leaves early has not passed, whatever its exit code."""
    try:
        tests = compile(first["tests"], "<tests>", "exec")
    except Exception as error:
        return reply(fault=f"the tests are no Python: {_said(error)}")
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    try:
        exec(compile(first["answer"], "<answer>", "exec"), module.__dict__)
    except BaseException as error:
        return reply(passed=False, said=_said(error))
    try:
        exec(tests, module.__dict__)
    except SystemExit as error:  # unittest.main() ends so
        left = error.code in (None, 0, False) and not _raised_in_answer(error)
        return reply(passed=left, said=_said(error))
    except BaseException as error:
        return reply(passed=False, said=_said(error))
    return reply(passed=True)


def _raised_in_answer(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<answer>":
            return True
        trace = trace.tb_next
    return False


def _said(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException:
        text = ""
    return f"{type(error).__name__}{': ' if text else ''}{text}"[:SAID]


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _must(done: int, what: str) -> None:
    if done != 0:
        raise _Refused(f"{what}: {os.strerror(ctypes.get_errno())}")


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


if __name__ == "__main__":
    main()
