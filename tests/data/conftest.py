"""Small files for the reader's tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from whet.data import read
from whet.recipe import DataPart
from whet.rows import Example


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder: paths in a test are written as a user would, without it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def lines(folder: Path) -> Callable[..., str]:
    """Write rows as JSON lines; the answer is the path."""

    def write(*rows: Any, name: str = "rows.jsonl") -> str:
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return name

    return write


@pytest.fixture
def examples(lines: Callable[..., str]) -> Callable[..., list[Example]]:
    """The examples that rows make for an objective."""

    def make(*rows: Any, objective: str = "sft", **part: Any) -> list[Example]:
        return read([DataPart(path=lines(*rows), **part)], objective)

    return make
