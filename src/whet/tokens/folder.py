"""A folder that appears whole or not at all: written beside its place, then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from whet.errors import RunError, StorageError


def check_free(folder: Path | str, option: str = "--output") -> Path:
    """The folder's path. Raises RunError where something is there already: nothing is written over."""
    path = Path(folder).expanduser()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunError("it is there already", where=f"{option} {folder}", do="name another folder, or remove it")
    return path


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that becomes it when the block ends well, and is removed when it does not.
    Raises StorageError where it cannot be written."""
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        beside.mkdir(parents=True)
        yield beside
        if folder.exists():
            folder.rmdir()
        os.replace(beside, folder)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise StorageError(f"cannot write: {error.strerror or error}", where=str(folder), do="name another") from error
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
