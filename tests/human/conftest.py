"""Reviews of small made-up answers, and `whet review` as a process that can be killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from whet.human.folder import Review, create
from whet.human.pairs import read_answers

THINGS = ["kettle", "lantern", "rowing boat", "chess clock", "violin", "greenhouse", "compass", "typewriter"]


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def answers(tmp_path: Path) -> Callable[[int], list[str]]:
    """answers(n): the files of two models, `wren` and `mole`, that answer the same n prompts."""

    def make(count: int) -> list[str]:
        asked = [f"What is a {THINGS[n % len(THINGS)]} good for, in case {n}?" for n in range(count)]
        good = [f"Case {n}: a {THINGS[n % len(THINGS)]} serves well." for n in range(count)]
        poor = [f"No idea about number {n}, sorry." for n in range(count)]
        return [
            write_rows(
                tmp_path / f"{name}.jsonl",
                [{"prompt": prompt, "completion": answer} for prompt, answer in zip(asked, given, strict=True)],
            )
            for name, given in (("wren", good), ("mole", poor))
        ]

    return make


@pytest.fixture
def make_review(tmp_path: Path, answers: Callable[[int], list[str]]) -> Callable[..., Review]:
    """make_review(pairs, judges, **settings): a review of `wren` against `mole`, in tmp_path/review."""

    def make(pairs: int = 6, judges: Sequence[str] = ("anna", "ben"), **settings: Any) -> Review:
        settings.setdefault("attention", 0.0)
        return create(tmp_path / "review", read_answers(answers(pairs), {}), judges, **settings)

    return make


class Served:
    """`whet review FOLDER` as a process of its own; `links` by judge."""

    def __init__(self, folder: Path, port: int = 0):
        command = [sys.executable, "-m", "whet", "review", str(folder), "--port", str(port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.process.stdout is not None
        self.said, self.links = "", {}
        for line in self.process.stdout:
            self.said += line
            if match := re.match(r"\s+(\S+)\s+(http://\S+)", line):
                self.links[match[1]] = match[2]
            if line.startswith("Ctrl-C"):
                break
        else:
            raise AssertionError(self.said)
        self.base = next(iter(self.links.values())).split("/?")[0]
        self.port = int(self.base.rsplit(":", 1)[1])

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """serve(folder, port=0): a running server; what still runs at the end is killed."""
    started: list[Served] = []

    def start(folder: Path, port: int = 0) -> Served:
        started.append(Served(folder, port))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.kill()
