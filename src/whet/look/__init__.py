"""How pages and figures look, for every room that shows something.

css          the style sheet, light and dark
plots        inline SVG in the page's own colours
units        figures as people read them
write_whole  a page in its place, whole or not at all; whole_folder  files that belong together
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from whet.errors import StorageError


def css() -> str:
    """The style sheet that goes into each page."""
    return files(__package__).joinpath("look.css").read_text(encoding="utf-8")


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder beside, which takes the place of `folder` when the block ends well. Raises StorageError."""
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        beside.mkdir(parents=True)
        yield beside
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(beside, folder)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise StorageError(f"cannot be written: {error.strerror or error}", where=str(folder)) from error


def write_whole(path: Path, text: str) -> Path:
    """Write a page beside its place and rename it. Raises StorageError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # A model may write half a character (a lone surrogate), which UTF-8 has no bytes for.
        beside.write_text(text, encoding="utf-8", errors="replace")
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        reason = error.strerror or str(error)
        raise StorageError(
            f"cannot be written: {reason}", where=str(path), do="free some space, or check who may write there"
        ) from None
    return path
