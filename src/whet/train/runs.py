"""Run folders, read back: one, all under a root, and several side by side.

Nothing here trains or writes. A folder that a crash left half-written is read as far as it goes; what could not be read
is kept in `faults` and said.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from whet.errors import RunError, did_you_mean
from whet.look.units import figure


@dataclass(frozen=True)
class RunFolder:
    """The files of one run. `steps` are the training lines of metrics.jsonl, `evaluations` its evaluation lines
    and `metrics` those of what the recipe's `evaluate` asks for, in the order of their step; where a resumed run wrote
    a step again, the later line stands."""

    path: Path
    recipe: dict[str, Any]
    summary: dict[str, Any] | None
    preflight: dict[str, Any] | None
    steps: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]
    faults: list[str]
    metrics: list[dict[str, Any]] = field(default_factory=list)

    @property
    def status(self) -> str:
        """finished, stopped, failed, or `unfinished`: no summary yet, so still at work or killed."""
        return str((self.summary or {}).get("status", "unfinished"))

    def setting(self, key: str) -> Any:
        """The recipe's value at a dotted key, or None."""
        tree: Any = self.recipe
        for name in key.split("."):
            tree = tree.get(name) if isinstance(tree, dict) else None
        return tree

    @property
    def held_out_rows(self) -> int | None:
        """How many rows were kept aside, by the ledger of preflight.json."""
        side = (self.preflight or {}).get("validation")
        kept = side.get("kept") if isinstance(side, dict) else None
        return kept if isinstance(kept, int) and kept > 0 else None

    def held_out(self, when: str) -> dict[str, float] | None:
        """The evaluation `before` or `after` training: the summary's, else the first or last line of the metrics."""
        if self.summary is not None:
            return self.summary.get(when)
        if when == "before":
            return next((line["evaluation"] for line in self.evaluations if line["step"] == 0), None)
        last = self.evaluations[-1] if self.evaluations else None
        return last["evaluation"] if last and last["step"] > 0 else None


@dataclass(frozen=True)
class RunInfo:
    """A line of the table of runs. Time in seconds; None where the run has not got so far."""

    name: str
    path: Path
    model: str
    method: str
    status: str
    steps: int
    perplexity_before: float | None
    perplexity_after: float | None
    tokens_per_second: float | None
    seconds: float | None
    bytes_on_disk: int
    faults: list[str] = field(default_factory=list)


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's: it has a recipe, and metrics or a summary."""
    return (folder / "recipe.yaml").is_file() and any(
        (folder / name).is_file() for name in ("metrics.jsonl", "summary.json")
    )


def find_runs(root: Path) -> list[Path]:
    """The run folders at or under `root`, in order of name. Hidden folders and the insides of runs are not searched."""
    found = []
    for place, folders, _ in os.walk(root):
        if is_run(Path(place)):
            found.append(Path(place))
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))
    return found


def list_runs(root: Path) -> list[RunInfo]:
    """What lies under `root`, a line a run. Raises RunError where there is no such folder."""
    if not root.is_dir():
        raise RunError("no such folder", where=str(root), do="name the folder that holds your runs: `whet runs FOLDER`")
    return [run_info(read_run(folder), root) for folder in find_runs(root)]


def run_info(run: RunFolder, root: Path) -> RunInfo:
    """The line of one run; its name is the path below `root`."""
    name = run.path.name if run.path == root else run.path.relative_to(root).as_posix()
    return RunInfo(
        name=name,
        path=run.path,
        model=str(run.setting("model.name") or "?"),
        method=str(run.setting("method.kind") or "?"),
        status=run.status,
        steps=int(_figure(run, "steps") or 0),
        perplexity_before=_figure(run, "before.perplexity"),
        perplexity_after=_figure(run, "after.perplexity"),
        tokens_per_second=_figure(run, "tokens_per_second"),
        seconds=_figure(run, "seconds"),
        bytes_on_disk=bytes_on_disk(run.path),
        faults=run.faults,
    )


def bytes_on_disk(folder: Path) -> int:
    """Bytes of all files under a folder; links count for nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if path.is_file() and not path.is_symlink():
                total += path.stat().st_size
    return total


def read_run(folder: Path) -> RunFolder:
    """Read a run folder's files.

    Raises RunError where the folder is not a run's, and names the nearest one that is.
    """
    if not is_run(folder):
        raise _not_a_run(folder)
    faults: list[str] = []
    steps: dict[int, dict[str, Any]] = {}
    evaluations: dict[int, dict[str, Any]] = {}
    metrics: dict[int, dict[str, Any]] = {}
    for line in _read_lines(folder / "metrics.jsonl", faults):
        kind = evaluations if "evaluation" in line else metrics if "metrics" in line else steps
        kind[line["step"]] = line
    return RunFolder(
        path=folder,
        recipe=_read_tree(folder / "recipe.yaml", faults) or {},
        summary=_read_tree(folder / "summary.json", faults),
        preflight=_read_tree(folder / "preflight.json", faults),
        steps=[steps[step] for step in sorted(steps)],
        evaluations=[evaluations[step] for step in sorted(evaluations)],
        faults=faults,
        metrics=[metrics[step] for step in sorted(metrics)],
    )


def _read_lines(path: Path, faults: list[str]) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl that are whole; a line cut off by a crash is noted by its number."""
    if not path.is_file():
        return []
    lines, broken = [], []
    for number, text in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
            whole = isinstance(line["step"], int) and all(
                isinstance(line.get(key, {}), dict) for key in ("evaluation", "metrics")
            )
        except (json.JSONDecodeError, TypeError, KeyError):
            whole = False
        if whole:
            lines.append(line)
        else:
            broken.append(number)
    if broken:
        more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        faults.append(f"{path.name}:{broken[0]}{more}: not a line of metrics, left out")
    return lines


def _read_tree(path: Path, faults: list[str]) -> dict[str, Any] | None:
    """A JSON or YAML file that holds keys and values; None where it is missing or, with a fault noted, broken."""
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        tree = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (json.JSONDecodeError, yaml.YAMLError):
        tree = None
    if isinstance(tree, dict):
        return tree
    faults.append(f"{path.name}: cannot be read, left out")
    return None


def _not_a_run(folder: Path) -> RunError:
    """The error for a folder that is not a run, with the nearest one: around it, in it, or of a like name beside it."""
    around = next((above for above in folder.absolute().parents if is_run(above)), None)
    inside = find_runs(folder)
    beside = {str(run): run for run in find_runs(folder.parent)} if folder.parent.is_dir() else {}
    if around:
        do = f"it lies in the run {folder.parents[folder.absolute().parents.index(around)]}"
    elif inside:
        do = f"it holds {len(inside)} runs; name one, such as {max(inside, key=_changed)}"
    elif near := did_you_mean(str(folder), beside):
        do = near.strip()
    elif beside:
        do = f"the latest run beside it is {max(beside.values(), key=_changed)}"
    else:
        do = "`whet runs FOLDER` lists the runs under a folder"
    what = "not a run folder (no recipe.yaml with metrics or summary)" if folder.is_dir() else "no such run folder"
    return RunError(what, where=str(folder), do=do)


def _changed(folder: Path) -> float:
    return folder.stat().st_mtime


def _figure(run: RunFolder, key: str) -> float | None:
    """A number of the summary at a dotted key; of a run without a summary, what its metrics tell."""
    if key.startswith(("before.", "after.")):
        when, name = key.split(".")
        value: Any = (run.held_out(when) or {}).get(name)
    elif run.summary is not None:
        value = run.summary
        for name in key.split("."):
            value = value.get(name) if isinstance(value, dict) else None
    elif run.steps and key == "steps":
        value = run.steps[-1]["step"]
    elif key == "tokens_per_second":
        rates = sorted(line[key] for line in run.steps if isinstance(line.get(key), (int, float)))
        value = rates[len(rates) // 2] if rates else None
    else:
        value = None
    return float(value) if isinstance(value, (int, float)) else None


TOLD = ("reward", "accuracy", "margin", "perplexity", "bits_per_byte")
"""Held-out figures that people look at, the most telling first: what a model learnt for comes before what it cost."""


def told(figures: dict[str, float]) -> list[str]:
    """The names of the figures to show, the first of them as the headline; the loss where there is nothing else."""
    return [name for name in TOLD if name in figures] or ["loss"]


def words(name: str) -> str:
    """A figure's name as people say it."""
    return {"bits_per_byte": "bits a byte"}.get(name, name.replace("_", " "))


def verdict(summary: dict[str, Any], rows: int | None = None) -> str:
    """One line on what a run achieved, from its summary; `rows` are those held out, where known."""
    before, after = summary.get("before"), summary.get("after")
    if before and after:
        where = f"on {rows:,} held-out rows" if rows else "on held-out rows"
        first = told(after)[0]
        return f"{words(first)} {figure(before.get(first))} -> {figure(after.get(first))} {where}"
    if summary.get("status") == "failed":
        return "failed before anything was measured"
    return "no rows were held out, so nothing was measured"


@dataclass(frozen=True)
class Difference:
    """A recipe key with the value of each run; None where a run's recipe has no such key."""

    key: str
    values: list[Any]


@dataclass(frozen=True)
class Figure:
    """A number of each run, and the index of the best where one may be named."""

    name: str
    values: list[float | None]
    best: int | None = None


@dataclass(frozen=True)
class Comparison:
    """Runs side by side. `notes` says why a best is not marked, and what could not be read."""

    names: list[str]
    differences: list[Difference]
    figures: list[Figure]
    notes: list[str]


# name, key of the summary, which end is better, and what must be the same for the numbers to mean the same
_FIGURES: list[tuple[str, str, str | None, str | None]] = [
    ("perplexity before", "before.perplexity", None, None),
    ("perplexity after", "after.perplexity", "least", "tokens"),
    ("loss after", "after.loss", "least", "tokens"),
    ("bits a byte after", "after.bits_per_byte", "least", "rows"),
    ("tokens a second", "tokens_per_second", "most", None),
    ("peak memory (bytes)", "peak_memory_bytes", "least", None),
    ("seconds", "seconds", None, None),
    ("steps", "steps", None, None),
    ("trained parameters", "model.trainable_parameters", None, None),
]
# What decides which rows are held out, and which of their tokens count.
_HELD_OUT_FILE = ["validation", "objective", "preflight.too_long", "preflight.nothing_to_learn", "train.max_length"]
_HELD_OUT_SHARE = [*_HELD_OUT_FILE, "data", "train.seed"]


def compare(folders: list[Path]) -> Comparison:
    """Recipe keys that differ and figures side by side.

    No best is marked in the held-out figures where the runs had different validation data; with different models only
    in bits a byte, as perplexity and loss are per token and tokenizers cut differently. Raises RunError for fewer than
    two folders, or one that is not a run's.
    """
    if len(folders) < 2:
        raise RunError("a comparison needs two runs", do="whet runs compare RUN RUN ...")
    runs = [read_run(folder) for folder in folders]
    rows_reason = _different_rows(runs)
    tokens_reason = rows_reason
    if rows_reason is None and len({(run.setting("model.name"), run.setting("model.revision")) for run in runs}) > 1:
        tokens_reason = "the models differ, so tokens may: only bits a byte can be compared across tokenizers"
    reasons = {"rows": rows_reason, "tokens": tokens_reason, None: None}
    figures = []
    for name, key, better, same in _FIGURES:
        values = [_figure(run, key) for run in runs]
        figures.append(Figure(name, values, None if reasons[same] else _best(values, better)))
    faults = [f"{run.path}: {fault}" for run in runs for fault in run.faults]
    return Comparison(
        names=[str(folder) for folder in folders],
        differences=_differences([_flat(run.recipe) for run in runs]),
        figures=figures,
        notes=([f"no best marked: {tokens_reason}"] if tokens_reason else []) + faults,
    )


def _different_rows(runs: list[RunFolder]) -> str | None:
    """Why the held-out figures of runs do not mean the same, or None."""
    if any(run.held_out("after") is None for run in runs):
        return "not every run was measured on held-out rows"
    by_file = any(isinstance(run.setting("validation"), str) for run in runs)
    for key in _HELD_OUT_FILE if by_file else _HELD_OUT_SHARE:
        if any(run.setting(key) != runs[0].setting(key) for run in runs):
            return f"the runs had different validation data (`{key}` differs)"
    if all(run.setting("model") == runs[0].setting("model") for run in runs):
        # The same model on the same rows starts from the same loss, up to rounding; else a file was changed.
        losses = [loss for run in runs if (loss := _figure(run, "before.loss")) is not None]
        if losses and max(losses) > 1.02 * min(losses):
            return "the runs had different validation data (the same model began with another loss)"
    return None


def _best(values: list[float | None], better: str | None) -> int | None:
    """The index of the best value; None where nothing is better, a value is missing or the best is shared."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if better is None or len(known) < len(values):
        return None
    best = min(known) if better == "least" else max(known)
    return known.index(best) if known.count(best) == 1 else None


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys and their values: {"train.seed": 0, "data.0.path": ...}."""
    if isinstance(tree, list) and any(isinstance(item, dict) for item in tree):
        tree = {str(index): item for index, item in enumerate(tree)}
    if not isinstance(tree, dict) or not tree:
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _differences(recipes: list[dict[str, Any]]) -> list[Difference]:
    """The keys whose values differ, in the recipe's order. `output` always does, and says nothing."""
    keys = dict.fromkeys(key for recipe in recipes for key in recipe)
    rows = [Difference(key, [recipe.get(key) for recipe in recipes]) for key in keys if key != "output"]
    return [row for row in rows if any(value != row.values[0] for value in row.values)]
