"""Functions of the user's own, named `FILE.py:FUNCTION`."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from whet.errors import RecipeError, did_you_mean


def load_function(named: str) -> Callable[..., Any]:
    """The function of a file, which is run for it. Raises RecipeError where either is not there or fails."""
    path, _, name = named.rpartition(":")
    try:
        space = runpy.run_path(str(Path(path)))
    except Exception as error:  # whatever the user's file does when it is run
        raise RecipeError(f"{type(error).__name__}: {error}", where=path, do="correct the file") from error
    if not callable(space.get(name)):
        known = [key for key, value in space.items() if callable(value) and not key.startswith("_")]
        raise RecipeError(f"no function {name!r}.{did_you_mean(name, known)}", where=path)
    function: Callable[..., Any] = space[name]
    return function
