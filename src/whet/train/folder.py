"""The run folder: a free place for a new run, one process at a time in it, and its small files written whole."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

from whet.errors import RecipeError, RunError, StorageError
from whet.recipe import Recipe, recipe_yaml
from whet.train.offline import Position
from whet.train.preflight import Ledger
from whet.train.preflight import write as write_ledger

LOCK = ".lock"


def free_folder(recipe: Recipe) -> Path:
    """The path that `output` names, free to be made.

    Raises RecipeError for a name that is none, RunError where something is there already.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S")
    names = {"model": Path(recipe.model.name).name, "method": recipe.method.kind, "time": stamp}
    try:
        folder = Path(recipe.output.format(**names))
        if "\0" in str(folder):
            raise ValueError("it has a NUL in it")
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except (ValueError, LookupError, AttributeError) as error:
        raise RecipeError(
            f"{recipe.output!r} is no folder's name: {error}",
            where="output",
            do="{model}, {method}, {time} are filled in",
        ) from None
    except OSError as error:
        raise RunError(
            f"cannot be made: {error.strerror}", where=f"output={recipe.output}", do="name another"
        ) from None
    if taken:
        raise _taken(folder)
    return folder


@contextmanager
def run_folder(folder: Path, recipe: Recipe, ledger: Ledger, position: Position, resumed: bool) -> Iterator[None]:
    """Make the folder with recipe and ledger (or, resumed, cut metrics.jsonl back to where the checkpoint is), and hold
    it against other processes to the end.

    Raises RunError where another process is at work in it or has taken it since, StorageError where it cannot be made.
    """
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _hold(stack.enter_context((folder / LOCK).open("w", encoding="utf-8")), folder)
            if not resumed and (folder / "recipe.yaml").exists():
                raise _taken(folder)
            stack.callback((folder / LOCK).unlink, missing_ok=True)
            if position.step == 0:
                write_text(folder / "recipe.yaml", recipe_yaml(recipe))
                write_ledger(ledger, folder)
            _cut_metrics(folder / "metrics.jsonl", position)
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise StorageError(
                f"cannot write: {error.strerror}", where=f"output={folder}", do="name a folder that you may write to"
            ) from error
        yield


def _hold(lock: TextIO, folder: Path) -> None:
    """The system lets go of it when the process ends, however it ends."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RunError(
            "another process is at work in this run",
            where=f"output={folder}",
            do="wait for it, or name another output=",
        ) from None


def _taken(folder: Path) -> RunError:
    if not folder.is_dir():
        return RunError("a file, not a folder", where=f"output={folder}", do="name another output=")
    unfinished = (folder / "recipe.yaml").exists() and not (folder / "summary.json").exists()
    what = "it holds an unfinished run" if unfinished else "it is not empty"
    hint = f"go on with it: whet train --resume {folder}; or name" if unfinished else "name"
    return RunError(what, where=f"output={folder}", do=f"{hint} another output=")


def _cut_metrics(path: Path, position: Position) -> None:
    """Keep the lines up to the checkpoint; what a killed run wrote after it is done again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            step = json.loads(line)["step"]
        except (ValueError, TypeError, LookupError):  # the last line of a killed run, or no line of ours
            continue
        if isinstance(step, int) and step <= position.step and (position.step or position.evaluations):
            kept.append(line)
    write_text(path, "".join(line + "\n" for line in kept))


def write_text(path: Path, text: str) -> None:
    """Whole or not at all. Raises OSError."""
    temporary = path.with_name(f".{path.name}.writing")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def not_written(folder: Path, error: OSError) -> StorageError:
    """The error for a run that cannot write on."""
    return StorageError(
        f"cannot write: {error}", where=str(folder), do=f"free space, then go on with: whet train --resume {folder}"
    )


def read_summary(folder: Path) -> dict[str, Any]:
    """summary.json of a run, empty where there is none. Raises RunError where it is broken."""
    path = folder / "summary.json"
    if not path.is_file():
        return {}
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"not JSON: {error}", where=str(path), do="delete it; the run is then finished again") from None
    return tree if isinstance(tree, dict) else {}
