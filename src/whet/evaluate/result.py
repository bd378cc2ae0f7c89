"""An evaluation in files: evaluation.json (figures, settings, versions), rows.parquet (row by row), report.html."""

from __future__ import annotations

import json
import math
import platform
import shutil
from collections.abc import Callable
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jinja2 import Environment, StrictUndefined
from pyarrow import parquet

from whet.errors import RunError, StorageError
from whet.evaluate.compare import Comparison
from whet.evaluate.judge import KEPT
from whet.evaluate.measure import Interval
from whet.evaluate.plots import plots_of
from whet.evaluate.run import Evaluation
from whet.look import css, whole_folder
from whet.look.units import duration, figure

BEST = 4
EXCERPT = 600
Table = tuple[str, list[str], list[list[str]]]


def check_folder(folder: Path) -> None:
    """Raise RunError where an evaluation cannot go: something else is there."""
    ours = [folder / "evaluation.json", folder / KEPT]
    try:
        other = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise StorageError(f"cannot be read: {error.strerror}", where=str(folder)) from error
    if other and not any(path.is_file() for path in ours):
        raise RunError("something else is there", where=f"output={folder}", do="name a folder for the evaluation")


def write(evaluation: Evaluation, folder: Path, comparison: Comparison | None = None) -> Path:
    """Write the files of an evaluation and return its page. They appear together, in place of an evaluation that was
    there; a judge's verdicts stay. Raises RunError where the folder is another's, StorageError."""
    check_folder(folder)
    with whole_folder(folder) as beside:
        (beside / "evaluation.json").write_text(_json(evaluation, comparison), encoding="utf-8", errors="replace")
        parquet.write_table(table(evaluation), beside / "rows.parquet")
        (beside / "report.html").write_text(page(evaluation, comparison), encoding="utf-8", errors="replace")
        if (folder / KEPT).is_file():
            shutil.copyfile(folder / KEPT, beside / KEPT)
    return folder / "report.html"


def tree(evaluation: Evaluation) -> dict[str, Any]:
    """As JSON has it."""
    return {
        "model": evaluation.model, "data": evaluation.data, "rows": evaluation.rows,
        "figures": {name: found.plain() for name, found in evaluation.intervals.items()},
        "notes": {one.name: one.notes for one in evaluation.measured if one.notes} | {"rows": evaluation.notes},
        "slices": {
            column: {value: {name: one.plain() for name, one in found.items()} for value, found in values.items()}
            for column, values in evaluation.slices.items()
        },
        "settings": evaluation.settings, "seconds": round(evaluation.seconds, 3),
        "versions": {"python": platform.python_version(), **{n: version(n) for n in ("whet", "torch", "transformers")}},
    }  # fmt: skip


def table(evaluation: Evaluation) -> pa.Table:
    """A row a row: its columns (what is no text as JSON), its answer, and what each metric says of it."""
    columns: dict[str, Any] = {}
    for name, values in evaluation.columns.items():
        plain = all(isinstance(value, (str, bool, type(None))) for value in values)
        columns[name] = values if plain else [json.dumps(value, ensure_ascii=False, default=str) for value in values]
    columns |= {one.name: one.values_R for one in evaluation.measured}
    return pa.table(columns)


def figures_table(evaluation: Evaluation) -> Table:
    """A line a figure."""
    rows = [[name, figure(one.value), within(one)] for name, one in evaluation.intervals.items()]
    return "Figures", ["metric", "value", "95 % interval"], rows


def difference_table(comparison: Comparison) -> Table:
    """A line a metric: both sides, the difference, and what can be said of it."""
    header = ["metric", comparison.a, comparison.b, "difference (95 %)", "p", "won / lost / tied", ""]
    rows = [
        [
            one.name, figure(one.a), figure(one.b), change(one.interval),
            f"{one.p:.2g}" + (f" (McNemar {one.mcnemar:.2g})" if one.mcnemar is not None else ""),
            f"{one.won:,} / {one.lost:,} / {one.tied:,}", one.verdict,
        ]
        for one in comparison.differences
    ]  # fmt: skip
    return f"{comparison.b} against {comparison.a}", header, rows


def change(interval: Interval) -> str:
    """`+0.03 (+0.01 to +0.05)`."""
    value, low, high = (f"{number:+.3g}" if number else "0" for number in (interval.value, interval.low, interval.high))
    return f"{value} ({low} to {high})" if math.isfinite(interval.low) else value


def within(interval: Interval) -> str:
    """`0.41 to 0.47`."""
    return f"{figure(interval.low)} to {figure(interval.high)}" if math.isfinite(interval.low) else ""


def page(evaluation: Evaluation, comparison: Comparison | None = None) -> str:
    """One page with everything in it: no script, no network. What people and models wrote is escaped."""
    template = files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8")
    tables = [figures_table(evaluation)]
    if comparison is not None:
        tables.insert(0, difference_table(comparison))
    tables += slice_tables(evaluation)
    tables += _confusions(evaluation)
    return Environment(autoescape=True, undefined=StrictUndefined).from_string(template).render(
        css=css(), title=evaluation.model, data=evaluation.data, rows=f"{evaluation.rows:,}",
        took=duration(evaluation.seconds), tables=tables, plots=plots_of(evaluation), examples=examples(evaluation),
        notes=[*(comparison.notes if comparison else []), *notes_of(evaluation)], comparison=comparison,
    )  # fmt: skip


def examples(evaluation: Evaluation) -> list[tuple[str, list[tuple[str, str]]]]:
    """The worst and the best rows by the first metric that has a direction: (heading, (name, text) of each part)."""
    judged = next((one for one in evaluation.measured if one.higher is not None), None)
    if judged is None:
        return []
    values = np.where(np.isnan(judged.values_R), np.nan, judged.values_R * (1 if judged.higher else -1))
    order = [int(n) for n in np.argsort(values, kind="stable") if not np.isnan(values[n])]
    places = evaluation.columns["place"]
    worst, best = order[:BEST], order[-BEST:][::-1] if len(order) >= 2 * BEST else []
    return [
        (f"{kind}: {judged.name} {figure(float(judged.values_R[n]))}, {places[n]}", _parts(evaluation, n))
        for kind, several in (("worst", worst), ("best", best)) for n in several
    ]  # fmt: skip


def _parts(evaluation: Evaluation, number: int) -> list[tuple[str, str]]:
    names = [name for name in ("prompt", "reference", "completion") if name in evaluation.columns]
    texts = [(name, str(evaluation.columns[name][number])) for name in names]
    return [(name, text if len(text) <= EXCERPT else text[:EXCERPT] + " …") for name, text in texts]


def slice_tables(evaluation: Evaluation) -> list[Table]:
    """A table for each column that figures are reported by."""
    return [_slice_table(column, values) for column, values in evaluation.slices.items()]


def _slice_table(column: str, values: dict[str, dict[str, Interval]]) -> Table:
    names = list(next(iter(values.values()), {}))
    rows = [
        [value, *(f"{figure(found[n].value)} ({within(found[n])})" for n in names)] for value, found in values.items()
    ]
    return f"By {column}", [column, *names], rows


def _confusions(evaluation: Evaluation) -> list[Table]:
    found = [one.notes for one in evaluation.measured if "confusion" in one.notes]
    return [
        ("Confusion: rows are what is right", ["", *notes["labels"]],
         [[label, *map(str, line)] for label, line in zip(notes["labels"], notes["confusion"], strict=False)])
        for notes in found
    ]  # fmt: skip


def notes_of(evaluation: Evaluation) -> list[str]:
    """What a reader should know beside the figures."""
    said = list(evaluation.notes)
    for one in evaluation.measured:
        if signature := one.notes.get("signature"):
            said.append(f"{one.name}: {signature}")
        if without := one.notes.get("without_verdict"):
            reasons, first = (
                ", ".join(sorted(set(one.notes["first"].values()))),
                ", ".join(list(one.notes["first"])[:3]),
            )
            said.append(f"{one.name}: {without:,} rows without a verdict ({reasons}), such as {first}")
        if none := one.notes.get("none_of_the_labels"):
            said.append(
                f"{one.name}: {none:,} of {evaluation.rows:,} answers begin with none of the labels, and are wrong"
            )
        if long := one.notes.get("sliding_window"):
            said.append(
                f"{one.name}: {long['rows']:,} of {evaluation.rows:,} rows are longer than the {long['tokens']:,} "
                f"tokens that the model takes, and scored by sliding window, such as {', '.join(long['first'][:3])}"
            )
    return said


def _json(evaluation: Evaluation, comparison: Comparison | None) -> str:
    whole = tree(evaluation)
    if comparison is not None:
        whole["comparison"] = {
            "against": comparison.a,
            "differences": [
                {k: v.plain() if isinstance(v, Interval) else v for k, v in vars(one).items()}
                | {"verdict": one.verdict}
                for one in comparison.differences
            ],
            "changed": comparison.changed,
            "judge": comparison.judged,
            "notes": comparison.notes,
        }
    plain: Callable[[Any], Any] = lambda value: value.item() if hasattr(value, "item") else str(value)  # noqa: E731
    return json.dumps(_finite(whole), indent=1, ensure_ascii=False, default=plain)


def _finite(value: Any) -> Any:
    """JSON has no NaN: null stands for it."""
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
