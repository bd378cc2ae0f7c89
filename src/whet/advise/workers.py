"""Trials in processes of their own, so that one's memory is not another's.

`Workers` starts one process that imports everything and computes nothing; for each trial it forks a child, which has
the libraries at once and whose peak memory is the trial's alone. Trials and results go over its standard streams, a
line of JSON each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import TracebackType
from typing import Any, Self

from whet.errors import RunError
from whet.recipe import Recipe


class Workers:
    """Use as a context manager; the process ends with it."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-c", f"from {__name__} import serve; serve()"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.terminate()
        self._process.communicate()

    def run(self, recipe: Recipe, seed: int, steps: int, shots: int) -> dict[str, Any]:
        """A trial's result. Raises RunError with what went wrong in it."""
        assert self._process.stdin
        assert self._process.stdout
        trial = {"recipe": recipe.model_dump(mode="json"), "seed": seed, "steps": steps, "shots": shots}
        self._process.stdin.write(json.dumps(trial) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        result: dict[str, Any] = json.loads(answer) if answer else {"error": "its process ended"}
        if "error" in result:
            raise RunError(f"the trial of {recipe.method.kind} failed: {result['error']}")
        return result


def serve() -> None:
    """Fork a child for each line until there is no more. Whatever libraries print goes to the error stream."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import whet.advise.trial  # noqa: F401  here, so that children have it

    for line in sys.stdin:
        read, write = os.pipe()
        child = os.fork()
        if not child:
            os.close(read)
            _answer(json.loads(line), write)
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            answer = pipe.read()
        _, status = os.waitpid(child, 0)
        answers.write((answer or json.dumps({"error": f"its process ended with status {status}"})) + "\n")
        answers.flush()


def _answer(trial: dict[str, Any], write: int) -> None:
    from whet.advise.trial import run_trial

    try:
        recipe = Recipe.model_validate(trial["recipe"])
        result = run_trial(recipe, trial["seed"], trial["steps"], trial["shots"])
    except Exception as error:  # told to the parent, which raises it
        result = {"error": f"{type(error).__name__}: {error}"}
    with os.fdopen(write, "w") as pipe:
        pipe.write(json.dumps(result))
