"""What the report says in words and numbers: the verdict, the key figures, the ledger of rows, the samples."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from whet.look.units import MISSING, count, duration, figure, size
from whet.train.runs import RunFolder, told, verdict, words

_LOSSES = ("cut", "dropped", "nothing_to_learn", "duplicated", "unlike_serving")


@dataclass(frozen=True)
class Tile:
    """A key figure: what it is, the number, and a line that puts it in proportion."""

    name: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class LedgerRow:
    """A line of the ledger: one value for training and held-out rows each, or one for both, and the places of the first
    rows that it is about. `lost`: something was lost there."""

    name: str
    values: list[str]
    places: list[str]
    lost: bool


def headline(run: RunFolder) -> str:
    """The verdict, as the title of the page."""
    if run.summary is not None:
        text = verdict(run.summary, run.held_out_rows)
    elif run.steps:
        text = f"no result yet: {len(run.steps):,} steps so far"
    else:
        text = "no result yet: no step was finished"
    return text[0].upper() + text[1:].replace("->", "→")


def subtitle(run: RunFolder) -> str:
    """Which model, by which method, how many rows it saw (each once an epoch), and on what machine."""
    summary = run.summary or {}
    model = summary.get("model", {}).get("name") or run.setting("model.name")
    method = summary.get("method") or run.setting("method.kind")
    parts = [f"{model} with {method}" if model and method else str(model or method or "")]
    if summary.get("rows"):
        parts.append(f"{summary['rows']:,} rows seen")
    parts += [str(summary[key]) for key in ("device", "dtype") if summary.get(key)]
    return " · ".join(part for part in parts if part)


def notices(run: RunFolder) -> list[str]:
    """What a reader must know before the numbers: an early end, a missing measure, a worse model, a broken file."""
    said = []
    summary = run.summary or {}
    if run.summary is None:
        said.append(
            "There is no summary.json: the run is still at work, or it was stopped; whet train --resume goes on "
            "with it. What it wrote so far is shown."
        )
    elif reason := summary.get("stopped_because"):
        said.append(f"{run.status.capitalize()} at step {count(summary.get('steps'))}: {reason}")
    elif run.status in ("stopped", "failed"):
        said.append(f"{run.status.capitalize()} at step {count(summary.get('steps'))}; no reason was recorded.")
    before, after = run.held_out("before"), run.held_out("after")
    if run.summary is not None and not after:
        said.append("Nothing was measured on rows that the model had not seen, so the training loss is all there is.")
    elif before and after and after["loss"] >= before["loss"]:
        said.append("On held-out rows the model is no better than before training.")
    return said + run.faults


def tiles(run: RunFolder) -> list[Tile]:
    """The key figures that this run has."""
    return [tile for tile in (*_quality(run), *_cost(run)) if tile]


def _quality(run: RunFolder) -> list[Tile | None]:
    before, after = run.held_out("before"), run.held_out("after")
    if before and after:
        return [_tile(before, after, name) for name in told(after)]
    losses = [line["loss"] for line in run.steps if isinstance(line.get("loss"), (int, float))]
    if not losses:
        return []
    return [Tile("Training loss", f"{figure(losses[0])} → {figure(losses[-1])}", "first and last step; not held out")]


MEANINGS = {
    "reward": "of the likeliest answers to held-out prompts",
    "accuracy": "how often the chosen answer has the higher reward",
    "margin": "reward of the chosen answer less the rejected one's",
    "bits_per_byte": "the same measure for any tokenizer",
    "loss": "the objective's, on held-out rows",
}


def _tile(before: dict[str, float], after: dict[str, float], name: str) -> Tile:
    note = MEANINGS.get(name, "")
    if name == "perplexity":
        change = 1 - after[name] / before[name]
        note = f"{abs(change):.0%} {'lower' if change >= 0 else 'higher'}"
    return Tile(words(name).capitalize(), _change(before, after, name), note)


def _change(before: dict[str, float], after: dict[str, float], name: str) -> str:
    return f"{figure(before.get(name))} → {figure(after.get(name))}"


def _cost(run: RunFolder) -> list[Tile | None]:
    """Time, speed, memory and size. `tokens` are those of the rows, `computed_tokens` those the model had to read."""
    summary = run.summary
    if summary is None:
        last = run.steps[-1]["step"] if run.steps else 0
        return [Tile("Steps", count(last), "so far")]
    model, tokens, computed = summary.get("model", {}), summary.get("tokens"), summary.get("computed_tokens")
    trained, parameters = model.get("trainable_parameters"), model.get("parameters")
    best = summary.get("best_step")
    shared = Tile(
        "Computed tokens",
        f"{computed / tokens:.0%}",
        f"{count(computed)} of {count(tokens)}; shared prefixes are computed once",
    ) if tokens and computed else None  # fmt: skip
    return [
        Tile("Tokens a second", count(summary.get("tokens_per_second")), f"{count(tokens)} tokens in all"),
        Tile("Time", duration(summary.get("seconds")), f"{summary.get('epochs') or 0:g} epochs"),
        Tile("Steps", count(summary.get("steps")), f"the result is that of step {best:,}" if best else ""),
        Tile("Peak memory", size(summary.get("peak_memory_bytes")), str(summary.get("device") or "")),
        Tile("Trained parameters", count(trained), f"{trained / parameters:.2%} of {count(parameters)}")
        if trained and parameters
        else None,
        shared,
    ]


MOST_LOOKS = 6


def along_the_way(run: RunFolder) -> tuple[list[int], list[dict[str, Any]]]:
    """(steps, prompts with an answer and its score at each of them), from samples.jsonl; of many steps a few."""
    found: dict[str, dict[int, dict[str, str]]] = {}
    try:
        text = (run.path / "samples.jsonl").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return [], []
    for line in text.splitlines():
        try:
            one = json.loads(line)
            answers = found.setdefault(str(one["prompt"]), {})
            answers[int(one["step"])] = {"text": str(one["answer"]), "score": figure(one["score"])}
        except (ValueError, KeyError, TypeError):
            continue  # half a line of a run that was killed
    steps = sorted({step for answers in found.values() for step in answers})
    if len(steps) > MOST_LOOKS:
        steps = [steps[round(at * (len(steps) - 1) / (MOST_LOOKS - 1))] for at in range(MOST_LOOKS)]
    return steps, [
        {"prompt": prompt, "answers": [answers.get(step) for step in steps]} for prompt, answers in found.items()
    ]


def samples(run: RunFolder) -> list[dict[str, str]]:
    """The held-out prompts with the answers before and after, and the row's own where there is one."""
    keys = ("prompt", "before", "after", "reference")
    return [{key: str(sample.get(key) or "") for key in keys} for sample in (run.summary or {}).get("samples", [])]


@dataclass(frozen=True)
class Evaluated:
    """What the recipe's `evaluate` came to: where, and a line a metric: name, before, after, difference, verdict."""

    title: str
    lines: list[list[str]]


def evaluated(run: RunFolder) -> Evaluated | None:
    """The base beside the result, each figure with its interval; None where nothing was asked for."""
    found = (run.summary or {}).get("evaluation")
    if not found:
        return None
    verdicts = {one["name"]: one for one in found.get("differences") or []}
    lines = []
    for name in found.get("after") or found.get("before") or {}:
        sides = [_interval((found.get(when) or {}).get(name)) for when in ("before", "after")]
        one = verdicts.get(name)
        change = [_interval(one, "+.3g"), f"{one['verdict']} (p {one['p']:.2g})"] if one else [MISSING, ""]
        lines.append([name.replace("_", " "), *sides, *change])
    return Evaluated(f"Evaluation on {count(found.get('rows'))} rows: {found.get('data')}", lines)


def _interval(found: dict[str, Any] | None, form: str = "") -> str:
    if not found or found.get("value") is None:
        return MISSING
    value, low, high = found["value"], found.get("low"), found.get("high")
    told = [format(number, form) if form and number else figure(number) for number in (value, low, high)]
    return told[0] if low is None or low == high else f"{told[0]} ({told[1]} to {told[2]})"


def ledger(preflight: dict[str, Any] | None) -> list[LedgerRow]:
    """preflight.json as a table: what is told of training and held-out rows side by side, then what concerns both."""
    if not preflight:
        return []
    sides = [_flat(preflight.get(side) or {}) for side in ("train", "validation")]
    names = dict.fromkeys(name for side in sides for name in side if not name.endswith("_first"))
    rows = [_ledger_row(name, sides) for name in names]
    both = {name: value for name, value in preflight.items() if not isinstance(value, (dict, list))}
    return rows + [_ledger_row(name, [preflight]) for name in both]


def _ledger_row(name: str, trees: list[dict[str, Any]]) -> LedgerRow:
    values = [_written(tree.get(name)) for tree in trees]
    lost = name in _LOSSES and any(tree.get(name) for tree in trees)
    places = [str(place) for tree in trees for place in tree.get(f"{name}_first") or []]
    return LedgerRow(name.replace("_", " "), values, places, lost)


def _flat(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree with what is nested in it beside it: {"lengths": {"median": 7}} gives {"lengths, median": 7}."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= {f"{name}, {inner}": v for inner, v in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def _written(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "yes" if value else "no" if value is False else MISSING
    if isinstance(value, (int, float)):
        return f"{value:,}" if isinstance(value, int) else figure(value)
    return str(value)
