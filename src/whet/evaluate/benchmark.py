"""lm-eval's task files as an evaluation: accuracy by log p and by log p a character, over all questions and by task."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from whet.errors import RecipeError
from whet.evaluate.choice import Answered, answer
from whet.evaluate.measure import Measured, mean_of
from whet.evaluate.metrics.labels import calibration
from whet.evaluate.run import Evaluation, sliced
from whet.evaluate.subject import Subject, open_subject
from whet.evaluate.tasks import Task, read_task
from whet.models.load import Loaded

COLUMN = "task"


def evaluate_tasks(
    model: str | Loaded | Subject,
    tasks: Sequence[str | Path],
    num_fewshot: int | None = None,
    *,
    cut: bool = False,
    seed: int = 0,
    done: Callable[[str, int, int], None] = lambda what, rows, of: None,
) -> Evaluation:
    """Answer the questions of task files, or of all those in a folder.

    Figures are lm-eval's `acc` and `acc_norm`, and calibration. Questions longer than the model takes are an error that
    counts and names them; with `cut` they lose their beginning, and a note says how many did. Raises RecipeError and
    RowError as `read_task` and its questions do, ModelError.
    """
    begin = time.perf_counter()
    read = [read_task(path) for path in task_files(tasks)]
    asked = [(task, question) for task in read for question in task.questions(num_fewshot)]
    questions = [question for _, question in asked]
    if not questions:
        raise RecipeError("no question in these tasks", where=", ".join(map(str, tasks)))
    subject = model if isinstance(model, Subject) else open_subject(model)
    scorer = subject.scorer()
    notes = [scorer.note] if scorer.note else []
    rows = sum(len(question.options) for question in questions)
    so_far = 0

    def count(finished: int) -> None:
        nonlocal so_far
        so_far += finished
        done("options", so_far, rows)

    answered = answer(scorer, subject.tokenizer, questions, ("sum", "mean"), cut, count, notes.append)
    measured = _measured(answered)
    columns = _columns([task for task, _ in asked], answered)
    settings = {"tasks": [task.name for task in read], "num_fewshot": num_fewshot, "cut": cut, "seed": seed}
    slices = {COLUMN: sliced(COLUMN, columns, measured, seed)} if len(read) > 1 else {}
    return Evaluation(
        subject.name, ", ".join(str(path) for path in tasks), measured, {m.name: m.interval(seed) for m in measured},
        slices, columns, settings, time.perf_counter() - begin, notes,
    )  # fmt: skip


def task_files(paths: Sequence[str | Path]) -> list[Path]:
    """The files that are named, and the YAML files of folders that are. Raises RecipeError for a folder without any."""
    found: list[Path] = []
    for path in map(Path, paths):
        inside = sorted([*path.glob("*.yaml"), *path.glob("*.yml")]) if path.is_dir() else [path]
        if not inside:
            raise RecipeError("no task file here", where=str(path), do="name a YAML file, or a folder of them")
        found += inside
    return found


def _measured(answered: Sequence[Answered]) -> list[Measured]:
    right = {norm: [float(one.right(norm)) for one in answered] for norm in ("sum", "mean")}
    wanted = [one.question.answer if one.question.answer is not None else -1 for one in answered]
    reliable = calibration([one.probabilities() for one in answered], wanted)
    return [mean_of("acc", right["sum"]), mean_of("acc_norm", right["mean"]), reliable]


def _columns(tasks: Sequence[Task], answered: Sequence[Answered]) -> dict[str, list[Any]]:
    options = [one.question.options for one in answered]
    return {
        "place": [one.question.place for one in answered],
        COLUMN: [task.name for task in tasks],
        "prompt": [one.question.context for one in answered],
        "reference": [o[one.question.answer or 0] for one, o in zip(answered, options, strict=True)],
        "completion": [o[one.chosen("sum")] for one, o in zip(answered, options, strict=True)],
        "logps": [one.logps["sum"].round(6).tolist() for one in answered],
    }
