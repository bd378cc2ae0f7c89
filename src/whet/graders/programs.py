"""Graders that run programs: `python` (the grader is one), `code` (the answer is one), `function` (the user's own)."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

from whet.answers import program
from whet.endpoint import in_order
from whet.functions import load_function
from whet.graders.confined import Box, Ended, Limits, Refused, allowed
from whet.graders.grade import Case, Found, Grader, one_of, said
from whet.recipe.graders import CodePart, FunctionPart, PythonPart
from whet.recipe.template import Template, value_at

TOGETHER = 16
"""Rows that are worth a process of their own."""


def python(part: PythonPart, name: str) -> Grader:
    """`grade(sample, item)` of the source, in a confined process for many rows. Where a row ends the process, the next
    rows go on in another. Raises RecipeError where nothing can be confined."""
    limits = _limits(part, name)

    def run(cases: Sequence[Case]) -> list[Found]:
        found: list[Found] = []
        while len(found) < len(cases):
            found += _until_it_ends(limits, part.source, cases[len(found) :])
        return found

    def scorer(cases: Sequence[Case]) -> list[Found]:
        shares = max(min(part.concurrency, len(cases) // TOGETHER), 1)
        size = math.ceil(len(cases) / shares)
        pieces = [cases[begin : begin + size] for begin in range(0, len(cases), size or 1)]
        return [one for _, found in in_order(run, pieces, shares) for one in found]

    return Grader(name, scorer)


def _until_it_ends(limits: Limits, source: str, cases: Sequence[Case]) -> list[Found]:
    """What one process says of the rows; at least of the first."""
    found: list[Found] = []
    try:
        with Box(limits, {"kind": "python", "source": source}, len(cases) + 1) as box:
            begun = box.result()
            if "broken" in begun:
                return [f"the source fails: {begun['broken']}"] * len(cases)
            for case in cases:
                try:
                    result = box.result({"sample": case.sample, "item": dict(case.item)})
                except Ended as error:
                    return [*found, str(error)]
                found.append(_score(result))
    except (Ended, Refused) as error:
        return [f"the source could not be started: {error}"] * len(cases)
    return found


def _score(result: dict[str, Any]) -> Found:
    score = result.get("score")
    return float(score) if isinstance(score, (int, float)) else str(result.get("fault", "no score"))


def code(part: CodePart, name: str) -> Grader:
    """1 where the answer's program and then the row's tests come to their end, else 0: an error, a time-out, a limit
    are the answer's. A row without tests, or whose tests are no Python, is a fault. Raises as `python` does."""
    limits, answer, tests = _limits(part, name), Template(part.input), Template(part.tests)

    def score(case: Case) -> Found:
        text = _tests(tests, case)
        if not text.strip():
            return "the row has no tests"
        first = {"kind": "code", "answer": program(case.filled(answer)), "tests": text}
        try:
            with Box(limits, first) as box:
                try:
                    result = box.result()
                except Ended:
                    return 0.0
        except (Ended, Refused) as error:
            return f"the program could not be started: {error}"
        return str(result["fault"]) if "fault" in result else float(result.get("passed") is True)

    def scorer(cases: Sequence[Case]) -> list[Found]:
        return [found for _, found in in_order(lambda case: one_of(score, case), cases, part.concurrency)]

    return Grader(name, scorer, [answer, tests])


def _tests(template: Template, case: Case) -> str:
    """A list of lines, as some sets have it, is one text."""
    path = template.alone()
    if path is not None and path[0] == "item":
        found = value_at(path, {"item": case.item})
        if isinstance(found, list):
            return "\n".join(map(str, found))
    return case.filled(template)


def _limits(part: PythonPart | CodePart, name: str) -> Limits:
    limits = Limits(seconds=part.timeout, memory_mb=part.memory_mb, network=part.allow_network)
    return allowed(limits, f"grader {name}")


def function(part: FunctionPart, name: str) -> Grader:
    """The user's function, called in this process with all rows; where it raises, with each row alone, to blame the
    one. Raises RecipeError where it cannot be loaded."""
    return Grader(name, _Own(load_function(part.function), part.timeout))


class _Own:
    """Calls in a thread. One that does not come back in time is left to itself, as no thread can be ended, and there is
    no further one."""

    def __init__(self, function: Callable[..., Any], timeout: float) -> None:
        self.function, self.timeout, self.lost = function, timeout, False

    def __call__(self, cases: Sequence[Case]) -> list[Found]:
        names = dict.fromkeys(name for case in cases for name in case.item if name != "completions")
        columns = {str(name): [case.item.get(name) for case in cases] for name in names}
        completions = [case.answer for case in cases]
        if self.lost:
            return ["not called again: it did not come back"] * len(cases)
        results: list[list[Found]] = []
        call = threading.Thread(
            target=lambda: results.append(self._found(completions, columns)), name="whet-grades", daemon=True
        )
        call.start()
        call.join(self.timeout)
        if not results:
            self.lost = call.is_alive()
            return [f"no result in {self.timeout:g} s" if self.lost else "it ended its thread"] * len(cases)
        return results[0]

    def _found(self, completions: list[str], columns: dict[str, list[Any]]) -> list[Found]:
        try:
            return _numbers(self.function(completions, **columns), len(completions))
        except BaseException as error:
            if len(completions) == 1:
                return [said(error)]
        alone = ({name: [values[n]] for name, values in columns.items()} for n in range(len(completions)))
        return [self._found([text], row)[0] for text, row in zip(completions, alone, strict=True)]


def _numbers(found: Any, rows: int) -> list[Found]:
    values = list(found)
    if len(values) != rows:
        raise ValueError(f"{len(values)} numbers for {rows} rows")
    return ["it gave None" if value is None else float(value) for value in values]
