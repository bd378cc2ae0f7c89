"""A prompt run in files: recipe.yaml, prompt/prompt.json, metrics.jsonl, summary.json and report.html."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from whet.errors import RunError, StorageError
from whet.evaluate.measure import Interval
from whet.incontext.run import Prompted
from whet.incontext.search import Candidate
from whet.look import css
from whet.look.units import duration
from whet.recipe import recipe_yaml

Table = tuple[str, list[str], list[list[str]]]
_SHORT = 48


def write(found: Prompted) -> Path:
    """Write the run folder, all of it at once, and return it. Raises RunError where something is there since,
    StorageError where it cannot be written."""
    folder = found.folder
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        (beside / "prompt").mkdir(parents=True)
        recipe = found.recipe.model_copy(update={"output": str(folder).replace("{", "{{").replace("}", "}}")})
        (beside / "recipe.yaml").write_text(recipe_yaml(recipe), encoding="utf-8")
        found.prompt.write(beside / "prompt")
        lines = [{"step": one.number, "evaluation": _figures(one)} for one in found.candidates]
        (beside / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        text = json.dumps(summary(found), indent=1, ensure_ascii=False)
        (beside / "summary.json").write_text(text, encoding="utf-8")
        (beside / "report.html").write_text(page(found), encoding="utf-8", errors="replace")
        if folder.exists():
            folder.rmdir()
        os.replace(beside, folder)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        if folder.exists():
            raise RunError("it is not empty", where=f"output={folder}", do="name another output=") from None
        raise StorageError(f"cannot be written: {error.strerror or error}", where=str(folder)) from error
    return folder


def summary(found: Prompted) -> dict[str, Any]:
    """As summary.json has it."""
    return {
        "status": "finished", "steps": 0, "seconds": round(found.seconds, 3),
        "rows_to_show": found.to_show, "validation_rows": found.validation,
        "scored_rows": sum(one.rows for one in found.candidates),
        "candidates": [
            {"number": one.number, "rows": one.rows, "rounds": one.rounds, **_figures(one)}
            | one.part.model_dump(include={"instruction", "shots", "choose", "order", "seed"})
            for one in found.candidates
        ],
        "test": {name: one.plain() for name, one in found.test.items()},
        "notes": found.notes,
        "versions": {"python": platform.python_version(), **{n: version(n) for n in ("whet", "torch", "transformers")}},
    }  # fmt: skip


def candidates_table(found: Prompted) -> Table:
    """A line a candidate, the best first."""
    calibrated = found.recipe.method.kind == "in_context" and found.recipe.method.calibrate
    header = ["", "shots", "seed", "instruction", "rows", "accuracy", "95 % interval"]
    lines = [
        [str(one.number), str(one.part.shots), str(one.part.seed), _short(one.part.instruction), f"{one.rows:,}",
         *_interval(one.accuracy()), *([f"{np.mean(one.plain):.3f}"] if calibrated else [])]
        for one in found.candidates
    ]  # fmt: skip
    return "Candidates on validation rows", [*header, *(["uncalibrated"] if calibrated else [])], lines


def test_table(found: Prompted) -> Table:
    """The best and the bare question on test rows."""
    return "On test rows", ["", "accuracy", "95 % interval"], [[n, *_interval(one)] for n, one in found.test.items()]


def tables(found: Prompted) -> Sequence[Table]:
    return [candidates_table(found), *([test_table(found)] if found.test else [])]


def page(found: Prompted) -> str:
    """One page with everything in it: no script, no network. What people and models wrote is escaped."""
    template = files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined).from_string(template).render(
        css=css(), title=found.folder.name, data=", ".join(part.path for part in found.recipe.data),
        shown=f"{found.to_show:,}", validation=f"{found.validation:,}", took=duration(found.seconds),
        tables=tables(found), notes=found.notes, example=found.example,
    )  # fmt: skip


def _figures(one: Candidate) -> dict[str, float]:
    return {"accuracy": float(np.mean(one.right)), "loss": -float(np.mean(one.logs))}


def _interval(one: Interval) -> list[str]:
    return [f"{one.value:.3f}", f"{one.low:.3f} to {one.high:.3f}"]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHORT else line[:_SHORT] + " …"
