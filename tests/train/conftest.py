"""A run folder as a run leaves it, written by hand; tests change one thing in it at a time. Below: recipes of every
objective on rows of its shape."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from whet.recipe import Recipe, check_recipe

RECIPE = {
    "model": {"name": "whet-tiny", "revision": None, "dtype": "auto", "quantize": None, "trust_remote_code": False},
    "data": [{"path": "support.jsonl", "split": "train", "limit": None, "weight": 1.0, "columns": {}}],
    "validation": 0.1,
    "preflight": {"max_loss_share": 0.01, "too_long": "cut", "nothing_to_learn": "stop"},
    "method": {"kind": "lora", "r": 16, "lora_alpha": None, "target_modules": "all-linear"},
    "objective": {"kind": "sft", "learn": "completions"},
    "train": {"epochs": 3.0, "batch_size": 8, "learning_rate": 2e-3, "max_length": 1024, "seed": 0},
    "output": "runs/support",
}
SIDE = {"read": 722, "kept": 720, "sequences": 720, "split": 0, "cut": 0, "dropped": 0, "nothing_to_learn": 2}
PREFLIGHT = {
    "max_length": 1024,
    "plain_template": False,
    "duplicated": 0,
    "unlike_serving": 0,
    "train": {
        **SIDE,
        "nothing_to_learn_first": ["support.jsonl:17 (an empty text)", "support.jsonl:640 (an empty text)"],
        "tokens": 183_060,
        "target_tokens": 66_690,
        "lengths": {"median": 251, "90 %": 288, "99 %": 306, "longest": 319},
    },
    "validation": {
        **SIDE,
        "read": 80,
        "kept": 80,
        "sequences": 80,
        "nothing_to_learn": 0,
        "tokens": 20_350,
        "target_tokens": 7_432,
        "lengths": {"median": 250, "90 %": 281, "99 %": 301, "longest": 301},
    },
}
SAMPLE = {
    "prompt": "Write to Priya: order 48213, the oak desk, is late. New date Tue 14 May, morning.",
    "reference": "Subject: Your order 48213\n\nDear Priya,\n\nYour oak desk will come on Tuesday 14 May.",
    "before": "The first of these is the one that was made by the Act of the of the year, and the other was that the "
    "order of the country was so much to be a desk.",
    "after": "Subject: New delivery date for order 48213\n\nDear Priya,\n\nWe are sorry that your oak desk is late. It "
    "will now reach you on Tuesday 14 May, in the morning.\n\nKind regards,\nThe Customer Desk",
}


def measured(loss: float) -> dict[str, float]:
    return {"loss": loss, "perplexity": math.exp(loss), "bits_per_byte": loss / 2.9}


def metrics(steps: int = 270, evaluate_every: int = 27) -> list[dict[str, Any]]:
    """Lines of a run: a loss that falls and wavers, a warm-up and a cosine, an evaluation every so often."""
    lines: list[dict[str, Any]] = [{"step": 0, "epoch": 0.0, "evaluation": measured(3.72)}]
    for step in range(1, steps + 1):
        wave = 0.16 * math.sin(step * 12.9898) + 0.1 * math.sin(step * 78.233)
        loss = 1.9 + 1.9 * math.exp(-step / 30) - 0.0012 * step + wave
        line = {"step": step, "epoch": step / 90, "loss": loss, "learning_rate": 2e-3 * _schedule(step, steps)}
        line |= {"grad_norm": 0.7 + 1.8 * math.exp(-step / 12) + 0.4 * abs(wave), "rows": 8}
        line |= {"tokens": 2034, "computed_tokens": 1084, "target_tokens": 741, "seconds": 0.31}
        lines.append(line | {"tokens_per_second": 6400 + 900 * wave - 2600 * (step == 1)})
        if evaluate_every and step % evaluate_every == 0:
            loss = 2.07 + 1.65 * math.exp(-step / 35) + 0.0004 * max(0, step - 190)
            lines.append({"step": step, "epoch": step / 90, "evaluation": measured(loss)})
    return lines


def _schedule(step: int, steps: int) -> float:
    return step / 8 if step < 8 else 0.5 + 0.5 * math.cos(math.pi * (step - 8) / (steps - 8))


def summary() -> dict[str, Any]:
    return {
        "status": "finished",
        "model": {
            "name": "whet-tiny", "architecture": "LlamaForCausalLM",
            "parameters": 7_324_160, "trainable_parameters": 384_000,
        },
        "method": "lora", "steps": 270, "epochs": 3.0, "seconds": 84.2, "rows": 720,
        "tokens": 549_180, "computed_tokens": 292_680, "target_tokens": 200_070, "tokens_per_second": 6522.3,
        "peak_memory_bytes": 1_236_000_000, "device": "cpu", "dtype": "bfloat16", "attention": "trie",
        "before": measured(3.72), "after": measured(2.08), "best_step": 189,
        "samples": [SAMPLE, {**SAMPLE, "prompt": "Ask Tomas whether Thursday at ten still suits him."}],
        "result": "adapter", "stopped_because": None,
        "versions": {"whet": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.2"},
    }  # fmt: skip


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """make_run("a", summary={"steps": 5}, recipe={"train.seed": 1}, lines=[...]) -> the folder tmp_path/a.

    Keys of `summary` and `recipe` (dotted) replace those above; None instead of a dict leaves the file out.
    """

    def make(
        name: str = "support",
        *,
        recipe: dict[str, Any] | None = None,
        lines: list[dict[str, Any]] | None = None,
        summary_changes: dict[str, Any] | None = None,
        with_summary: bool = True,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        tree = json.loads(json.dumps(RECIPE)) | {"output": str(name)}
        for key, value in (recipe or {}).items():
            *parents, last = key.split(".")
            place = tree
            for parent in parents:
                place = place[parent]
            place[last] = value
        (folder / "recipe.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
        (folder / "preflight.json").write_text(json.dumps(PREFLIGHT))
        lines = metrics() if lines is None else lines
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        if with_summary:
            (folder / "summary.json").write_text(json.dumps(summary() | (summary_changes or {})))
        return folder

    return make


# --- runs of other objectives ------------------------------------------------

LETTERS = """\
def letters(completions, **columns):
    return [sum(letter in "abcdefghij" for letter in text) / max(1, len(text)) for text in completions]
"""
"""A grader that a model of random weights learns from: it wants letters of the first ten."""


@pytest.fixture
def preference_rows(tmp_path: Path) -> Callable[..., Path]:
    """preference_rows("preference" | "label" | "prompt", extra=[...]) -> a file of 20 rows, and those of `extra`."""

    def make(shape: str, extra: Sequence[dict[str, Any]] = ()) -> Path:
        rows = []
        for number in range(20):
            animal = ("cat", "dog", "rug", "mat", "home", "wren", "mole")[number % 7]
            row: dict[str, Any] = {"prompt": f"where is the {animal} number {number}?"}
            good, bad = f"the {animal} sat on the mat", f"no {animal} {number % 3}"
            if shape == "preference":
                row |= {"chosen": good, "rejected": bad}
            elif shape == "label":
                row |= {"completion": good if number % 2 else bad, "label": bool(number % 2)}
            else:
                row |= {"animal": animal}
            rows.append(row)
        path = tmp_path / f"{shape}.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in [*rows, *extra]))
        return path

    return make


@pytest.fixture
def objective_recipe(
    tmp_path: Path, model_folder: Path, preference_rows: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Recipe]:
    """objective_recipe("dpo", output="run", method="lora", objective={}, **train): references are kept in tmp_path."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "letters.py").write_text(LETTERS)
    shapes = {"kto": "label"} | dict.fromkeys(("grpo", "rloo", "reinforce++", "ppo"), "prompt")

    def make(
        kind: str,
        output: str = "run",
        method: Any = "lora",
        objective: dict[str, Any] | None = None,
        extra: Sequence[dict[str, Any]] = (),
        **more: Any,
    ) -> Recipe:
        shape = shapes.get(kind, "preference")
        settings: dict[str, Any] = {"batch_size": 4, "max_steps": 4, "learning_rate": 1e-2, "checkpoint_every": 2}
        part: dict[str, Any] = {"kind": kind, **(objective or {})}
        if shape == "prompt":
            settings |= {"batch_size": 8}
            part = {"num_generations": 4, "max_new_tokens": 6} | part
            part.setdefault("grader", {"type": "function", "function": f"{tmp_path / 'letters.py'}:letters"})
        tree = {
            "model": {"name": str(model_folder), "dtype": "float32"}, "data": str(preference_rows(shape, extra)),
            "validation": 0.2, "objective": part, "method": method, "samples": 1, "output": str(tmp_path / output),
            "train": {**settings, "max_length": 96, **more.pop("train", {})},
        } | more  # fmt: skip
        return check_recipe(tree, "test")

    return make
