"""Grades of a file of answers: figures by grader, and the files that keep them: grades.json and rows.parquet."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from whet.errors import RowError, RunError, StorageError
from whet.graders.grade import Grade, Grader
from whet.look import whole_folder
from whet.look.units import figure

AT_ONCE = 256
"""Rows that are graded together."""
TOLD = 20
"""Faults that are named in grades.json."""
_QUARTILES = ("min", "25 %", "median", "75 %", "max")
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Graded:
    """The rows with their `place`, their grades, and scores by grader [rows], NaN for none; the whole one first."""

    data: str
    rows: Rows
    grades: list[Grade]
    scores: dict[str, np.ndarray]

    @property
    def faults(self) -> list[str]:
        return [grade.fault for grade in self.grades if grade.fault]


def grade_rows(
    grader: Grader, rows: Rows, answers: str, data: str, done: Callable[[int, int], None] = lambda rows, of: None
) -> Graded:
    """Grade what the column `answers` of each row holds. `done` gets rows finished and rows in all. Raises RowError for
    a row without an answer, RecipeError for a column that the grader needs and no row has."""
    for row in rows:
        if not isinstance(row.get(answers), str):
            found = "no answer" if row.get(answers) is None else "an answer that is no text"
            known = ", ".join(name for name in row if name != "place")
            do = f"name the column of answers: --answers COLUMN; this row has {known}"
            raise RowError(f"{found} in {answers!r}", where=str(row["place"]), do=do)
    grader.check(rows)
    grades: list[Grade] = []
    for begin in range(0, len(rows), AT_ONCE):
        some = rows[begin : begin + AT_ONCE]
        grades += grader.grade(some, [row[answers] for row in some])
        done(len(grades), len(rows))
    return Graded(data, rows, grades, by_grader(grader.name, grades))


def by_grader(name: str, grades: Sequence[Grade]) -> dict[str, np.ndarray]:
    """Scores by grader, the whole first, then those of a multi's graders; NaN where there is none."""
    parts = dict.fromkeys(part for grade in grades for part in grade.parts if part != name)
    nan = float("nan")
    found = {name: np.array([nan if grade.score is None else grade.score for grade in grades])}
    return found | {part: np.array([grade.parts.get(part, nan) for grade in grades]) for part in parts}


def figures(graded: Graded) -> dict[str, dict[str, float | int | None]]:
    """By grader: mean and standard deviation over the rows that have a score, the quartiles, and rows without one."""
    found: dict[str, dict[str, float | int | None]] = {}
    for name, scores in graded.scores.items():
        there = scores[~np.isnan(scores)]
        values = [there.mean(), there.std(), *np.quantile(there, [0, 0.25, 0.5, 0.75, 1])] if len(there) else [None] * 7
        plain = [None if value is None else float(value) for value in values]
        found[name] = dict(zip(("mean", "sd", *_QUARTILES), plain, strict=True)) | {"faults": len(scores) - len(there)}
    return found


def figures_table(graded: Graded) -> tuple[str, list[str], list[list[str]]]:
    """A line a grader, for people."""
    rows = len(graded.rows)
    lines = [
        [name, *("" if value is None else figure(float(value)) for key, value in one.items() if key != "faults"),
         f"{one['faults']:,} of {rows:,}"]
        for name, one in figures(graded).items()
    ]  # fmt: skip
    return "Grades", ["grader", "mean", "sd", *_QUARTILES, "faults"], lines


def check_folder(folder: Path) -> None:
    """Raise RunError where grades cannot go: something else is there."""
    try:
        other = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise StorageError(f"cannot be read: {error.strerror}", where=str(folder)) from error
    if other and not (folder / "grades.json").is_file():
        raise RunError("something else is there", where=f"output={folder}", do="name a folder for the grades")


def write(graded: Graded, grader: dict[str, Any], folder: Path) -> Path:
    """Write the files and return the folder; they appear together, in place of grades that were there. `grader` is its
    part as plain data. Raises RunError where the folder is another's, StorageError."""
    import pyarrow as pa
    from pyarrow import parquet

    check_folder(folder)
    whole = {
        "grader": grader, "data": graded.data, "rows": len(graded.rows), "figures": figures(graded),
        "faults": graded.faults[:TOLD], "versions": {"whet": version("whet")},
    }  # fmt: skip
    with whole_folder(folder) as beside:
        (beside / "grades.json").write_text(json.dumps(whole, indent=1, ensure_ascii=False), encoding="utf-8")
        parquet.write_table(pa.table(_columns(graded)), beside / "rows.parquet")
    return folder


def _columns(graded: Graded) -> dict[str, Any]:
    """The rows' own columns, what is no text as JSON; then `score`, `fault`, and `score.NAME` of a multi's graders."""
    columns: dict[str, Any] = {}
    for name in dict.fromkeys(name for row in graded.rows for name in row):
        values = [row.get(name) for row in graded.rows]
        plain = all(isinstance(value, (str, type(None))) for value in values)
        columns[name] = values if plain else [json.dumps(value, ensure_ascii=False, default=str) for value in values]
    first, *parts = graded.scores
    own = {"score": graded.scores[first]} | {f"score.{part}": graded.scores[part] for part in parts}
    return columns | own | {"fault": [grade.fault for grade in graded.grades]}
