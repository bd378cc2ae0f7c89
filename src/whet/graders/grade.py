"""What a grader is: rows and answers -> grades, and never an exception."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from whet.answers import NOTHING, parsed
from whet.errors import RecipeError, did_you_mean
from whet.recipe.template import Absent, Template


@dataclass(frozen=True)
class Grade:
    """`score`, None where there is none; then `fault` names grader and row and says why. `parts` are the scores by
    grader: of a multi its own graders', else the one."""

    score: float | None
    parts: dict[str, float] = field(default_factory=dict)
    fault: str | None = None


@dataclass(frozen=True)
class Case:
    """A row and its answer, as templates and programs see them."""

    item: Mapping[str, Any]
    answer: str
    place: str

    @cached_property
    def sample(self) -> dict[str, Any]:
        """OpenAI's `sample`; `output_json` is None where the answer is no JSON."""
        value = parsed(self.answer)
        return {"output_text": self.answer, "output_json": None if value is NOTHING else value}

    def filled(self, template: Template) -> str:
        """Raises Absent."""
        return template(self.item, self.sample)


Found = float | str
"""A score, or why there is none."""
Scorer = Callable[[Sequence[Case]], list[Found]]


class Grader:
    """`scorer` says what each case is worth; `templates` are those that it fills in."""

    def __init__(self, name: str, scorer: Scorer, templates: Sequence[Template] = ()) -> None:
        self.name, self._scorer, self._templates = name, scorer, templates

    def check(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Raises RecipeError for a column that a template asks for and no row has: before grading, a matter of the
        recipe and not of a row."""
        known = list(dict.fromkeys(column for item in items for column in item))
        for column in sorted(set().union(*(template.columns for template in self._templates))):
            if column not in known:
                raise RecipeError(
                    f"no row has a column {column!r}.{did_you_mean(column, known)}",
                    where=f"grader {self.name}",
                    do=f"the columns are {', '.join(known)}",
                )

    def grade(self, items: Sequence[Mapping[str, Any]], answers: Sequence[str]) -> list[Grade]:
        """A grade for each row [rows] and its answer [rows]. A row's `place`, where it has one, names it in faults.

        Raises nothing for what happens while it grades: what fails, hangs or gives no finite number has no score.
        """
        cases = cases_of(items, answers)
        try:
            found = self._scorer(cases)
            if len(found) != len(cases):
                raise ValueError(f"{len(found)} scores for {len(cases)} rows")
        except Exception as error:  # whatever a library, an endpoint or a function of the user's does
            found = [said(error)] * len(cases)
        return [self._grade(case, one) for case, one in zip(cases, found, strict=True)]

    def _grade(self, case: Case, found: Found) -> Grade:
        if isinstance(found, str):
            return Grade(None, fault=f"{self.name}, {case.place}: {found}")
        if not math.isfinite(found):
            return Grade(None, fault=f"{self.name}, {case.place}: the score is {found}, which is no finite number")
        return Grade(float(found), {self.name: float(found)})


def cases_of(items: Sequence[Mapping[str, Any]], answers: Sequence[str]) -> list[Case]:
    return [
        Case(item, answer, str(item.get("place") or f"row {number}"))
        for number, (item, answer) in enumerate(zip(items, answers, strict=True), 1)
    ]


def each(score: Callable[[Case], float], lowest: float = 0.0) -> Scorer:
    """A scorer of rows one by one. What an answer lacks costs it all (`lowest`); what a row lacks is a fault, and so is
    what `score` raises."""

    def scorer(cases: Sequence[Case]) -> list[Found]:
        return [one_of(score, case, lowest) for case in cases]

    return scorer


def one_of(score: Callable[[Case], Any], case: Case, lowest: float = 0.0) -> Any:
    """`score` of a case, or what it comes to where it raises."""
    try:
        return score(case)
    except Absent as error:
        return lowest if error.of_sample else said(error)
    except Exception as error:
        return said(error)


def said(error: BaseException) -> str:
    """An exception in a line."""
    text = " ".join(str(error).split())[:300]
    return text if isinstance(error, Absent) else f"{type(error).__name__}{': ' if text else ''}{text}"
