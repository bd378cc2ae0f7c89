"""What Python programs call: `whet.train(...)`, `whet.evaluate(...)`. It stands above the rooms, as the command line
does."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whet.errors import RecipeError
from whet.recipe import DataPart, JudgePart, Part, Recipe, check_recipe
from whet.recipe.faults import check_part
from whet.train import run as runs
from whet.train.folder import free_folder
from whet.train.run import Run

if TYPE_CHECKING:
    from whet.advise import Advice
    from whet.evaluate.compare import Comparison
    from whet.evaluate.judge import Judge
    from whet.evaluate.run import Evaluation
    from whet.evaluate.subject import Subject
    from whet.models.load import Loaded
    from whet.train.evaluator import Evaluator


def train(model: str | Loaded, data: str | list[str], *, quiet: bool = False, **settings: Any) -> Run:
    """Train from Python: `train("whet-tiny", "my.jsonl", method=whet.LoRA(r=8), train={"epochs": 1}, output="runs/a")`.

    `settings` are the recipe's keys, as parts or plain dictionaries. Raises what `run` raises.
    """
    tree = {
        key: value.model_dump(exclude_unset=True) | ({"kind": value.kind} if hasattr(value, "kind") else {})
        if isinstance(value, Part)
        else value
        for key, value in settings.items()
    }
    name = model if isinstance(model, str) else model.name
    recipe = check_recipe({"model": name, "data": data, **tree}, where="whet.train")
    return run(recipe, quiet, None if isinstance(model, str) else model)


def run(recipe: Recipe, quiet: bool = False, loaded: Loaded | None = None) -> Run:
    """Train as the recipe says. `method: auto` is resolved first: the reason is told, and kept as `advice.json` in the
    run folder, whose recipe.yaml has the method that was chosen. Raises what `whet.train.run.run` and
    `whet.advise.choose` raise."""
    if recipe.method.kind != "auto":
        return runs.run(recipe, quiet, loaded, _evaluator)
    free_folder(recipe)  # a name that is taken should not cost a pilot
    advice = _choose(recipe, quiet)
    chosen = advice.recipe
    folder = free_folder(chosen)
    try:
        return runs.run(chosen.model_copy(update={"output": _literal(folder)}), quiet, loaded, _evaluator)
    finally:  # also where the run was stopped and will be resumed
        if (folder / "recipe.yaml").is_file():
            text = json.dumps(advice.tree(), indent=1, ensure_ascii=False)
            (folder / "advice.json").write_text(text, encoding="utf-8")


def resume(folder: Path | str, quiet: bool = False) -> Run:
    """Go on with an unfinished run. Raises what `whet.train.run.resume` raises."""
    return runs.resume(folder, quiet, _evaluator)


def evaluate(
    model: str | Loaded | Run,
    data: str | DataPart | Sequence[DataPart] = (),
    metrics: Sequence[str | Callable[..., Any]] = ("perplexity",),
    *,
    tasks: Sequence[str | Path] = (),
    num_fewshot: int | None = None,
    slices: Sequence[str] = (),
    labels: Sequence[str] = (),
    judge: JudgePart | dict[str, Any] | None = None,
    max_new_tokens: int = 256,
    seed: int = 0,
    output: Path | str | None = None,
) -> Evaluation:
    """Measure a run, a model's name or folder, or a model at hand, on rows; or on lm-eval's task files.

        found = whet.evaluate("runs/a", "test.jsonl", ["perplexity", "rouge", polite], slices=["topic"])
        found["rougeL"], found.intervals["rougeL"].low

    `metrics` are names, `FILE.py:FUNCTION`, or functions `f(completions, **columns)` that give a number a row. `judge`
    is who is asked for the metric `judge`. With `output` a folder of evaluation.json, rows.parquet and report.html is
    written. Raises RecipeError for settings, RowError for rows, ModelError for a model or a judge that cannot answer.
    """
    from whet.evaluate.benchmark import evaluate_tasks
    from whet.evaluate.result import check_folder, write
    from whet.evaluate.run import evaluate as measure

    folder = Path(output) if output is not None else None
    if folder is not None:
        check_folder(folder)
    subject = _subject(model)
    if tasks:
        found = evaluate_tasks(subject, tasks, num_fewshot, seed=seed)
    else:
        found = measure(
            subject, _data(data), metrics, slices=slices, labels=labels, max_new_tokens=max_new_tokens,
            judge=_judge(judge, folder), seed=seed,
        )  # fmt: skip
    if folder is not None:
        write(found, folder)
    return found


def compare(
    a: str | Loaded | Run,
    b: str | Loaded | Run | None,
    data: str | DataPart | Sequence[DataPart],
    metrics: Sequence[str | Callable[..., Any]] = ("perplexity",),
    *,
    judge: JudgePart | dict[str, Any] | None = None,
    max_new_tokens: int = 256,
    seed: int = 0,
    output: Path | str | None = None,
) -> Comparison:
    """Two models on the same rows: paired differences of B less A, with intervals and a verdict each.

        for one in whet.compare("runs/a", None, "test.jsonl").differences:   # None: a's base against a
            print(one.name, one.interval.value, one.verdict)

    With `judge` a model prefers one of their answers, asked both ways round (the difference `preferred`). Raises as
    `evaluate` does.
    """
    from whet.evaluate.compare import compare as differences
    from whet.evaluate.result import check_folder, write
    from whet.evaluate.run import evaluate as measure
    from whet.evaluate.subject import open_subject

    folder = Path(output) if output is not None else None
    if folder is not None:
        check_folder(folder)
    if b is None:
        run = str(a.folder) if isinstance(a, Run) else a
        if not isinstance(run, str):
            raise RecipeError("a model at hand has no base to compare with", where="b", do="name two, or a run")
        subjects = [open_subject(run, base=True), open_subject(run)]
    else:
        subjects = [_subject(a), _subject(b)]
    who = _judge(judge, folder)
    one, two = (
        measure(
            subject, _data(data), metrics, max_new_tokens=max_new_tokens, judge=who, answered=who is not None, seed=seed
        )
        for subject in subjects
    )
    found = differences(one, two, seed, who)
    if folder is not None:
        write(two, folder, found)
    return found


def _evaluator(recipe: Recipe, folder: Path) -> Evaluator:
    from whet.evaluate.training import InRun

    return InRun(recipe, folder)


def _subject(model: str | Loaded | Run) -> Subject:
    from whet.evaluate.subject import open_subject

    return open_subject(str(model.folder) if isinstance(model, Run) else model)


def _data(data: str | DataPart | Sequence[DataPart]) -> str | DataPart | Sequence[DataPart]:
    if not data:
        raise RecipeError("nothing to evaluate on", where="data", do="name a file of rows, or tasks=[...]")
    return data


def _judge(judge: JudgePart | dict[str, Any] | None, folder: Path | None) -> Judge | None:
    from whet.evaluate.judge import Judge

    if judge is None:
        return None
    return Judge(judge if isinstance(judge, JudgePart) else check_part(JudgePart, judge, "judge"), folder)


def _choose(recipe: Recipe, quiet: bool) -> Advice:
    from whet.advise import choose
    from whet.advise.progress import watching

    with watching(quiet) as (say, done):
        advice = choose(recipe, say, done)
        say(f"method {advice.recipe.method.kind}: {advice.reason}")
    return advice


def _literal(folder: Path) -> str:
    """The folder as `output` has it: braces are doubled, for they stand for names there."""
    return str(folder).replace("{", "{{").replace("}", "}}")
