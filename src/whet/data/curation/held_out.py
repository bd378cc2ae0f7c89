"""Held-out files: rows that others are compared with, and that are never changed. Any format; no row may be broken."""

from __future__ import annotations

from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import Any

from whet.data.curation.output import is_remote
from whet.data.curation.settings import Curation
from whet.data.curation.source import read_files
from whet.data.curation.stage import Stage
from whet.data.sources import files_of
from whet.errors import RowError


def check_paths(paths: Sequence[str]) -> None:
    """Raises RowError for a path on this machine where nothing is."""
    for path in paths:
        if is_remote(path) or path.startswith("hub:"):
            continue
        if not (any(mark in path for mark in "*?[") and glob(path, recursive=True)):  # noqa: PTH207 (absolute patterns)
            files_of(path)


def held_out_stage(paths: Sequence[str], folder: Path) -> tuple[Stage, list[dict[str, Any]]]:
    """(their rows as a stage in `folder`, the files with bytes and BLAKE2b). No paths: no rows."""
    if not paths:
        return Stage([], 0), []

    def reject(place: str, reason: str, raw: Any) -> None:
        raise RowError(f"held-out rows must be whole: {reason}", where=place)

    stage, reading = read_files(paths, Curation(steps=[{}]), folder, reject, lambda rows: None)
    return stage, reading.files
