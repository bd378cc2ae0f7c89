"""Learning from a reward that can be checked: how far, how fast, and how surely over seeds.

    python bench/rl.py                                      # both tasks, GRPO and PPO, five seeds, a plot
    python bench/rl.py --tasks json --algorithms grpo --seeds 1

From one supervised start, whet-tiny learns to answer in a form that a grader checks:

    json     "Describe Anna, 34, from Oslo." as JSON with the keys name, age and city (JSON Schema)
    length   a description of 12 to 16 words

The start was shown mostly other answers, so that it is right in under 30 % of the held-out prompts (greedy answers).
Prints a table of shares right before and after, and the seconds; writes `--figures FOLDER/rl.svg`.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import whet

NAMES = ["Anna", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry", "Ida", "Jack", "Kate", "Louis", "Maria",
         "Noah", "Olga", "Paul", "Rosa", "Simon", "Tina", "Victor"]  # fmt: skip
CITIES = ["Oslo", "Rome", "Paris", "Berlin", "Madrid", "London", "Vienna", "Prague", "Lisbon", "Dublin"]
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "city": {"type": "string"}},
    "required": ["name", "age", "city"],
    "additionalProperties": False,
}
GRADERS: dict[str, dict[str, Any]] = {
    "json": {"type": "json_schema", "json_schema": SCHEMA},
    "length": {"type": "length", "unit": "words", "min": 12, "max": 16, "slope": 0.1},
}
EXACT = {**GRADERS, "length": {**GRADERS["length"], "slope": 1.0}}
"""1 or 0: what is counted. Learning needs the nearer miss to be worth more than the farther one."""
SETTINGS: dict[str, dict[str, Any]] = {
    "grpo": {"num_generations": 8},
    "ppo": {"num_iterations": 2, "beta": 0.02},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(GRADERS), choices=list(GRADERS))
    parser.add_argument("--algorithms", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64, help="answers a step")
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--figures", default="", help="folder for rl.svg")
    args = parser.parse_args()
    curves: dict[tuple[str, str], list[list[tuple[int, float]]]] = {}
    with tempfile.TemporaryDirectory(prefix="whet-rl-") as name:
        folder = Path(name)
        print(f"{'task':8} {'':6} {'seed':>4} {'start':>7} {'end':>7} {'seconds':>8}", flush=True)
        for task in args.tasks:
            start = supervised(task, folder)
            for algorithm in args.algorithms:
                for seed in range(args.seeds):
                    began = time.perf_counter()
                    run = reinforced(task, algorithm, seed, start, folder, args)
                    curve = held_out(run)
                    curves.setdefault((task, algorithm), []).append(curve)
                    print(
                        f"{task:8} {algorithm:6} {seed:4} {curve[0][1]:7.1%} {curve[-1][1]:7.1%} "
                        f"{time.perf_counter() - began:8.0f}",
                        flush=True,
                    )
    for (task, algorithm), found in curves.items():
        ends = [curve[-1][1] for curve in found]
        print(
            f"{task} {algorithm}: {statistics.mean(ends):.1%} on the mean of {len(ends)} seeds, least {min(ends):.1%}"
        )
    if args.figures:
        plot(curves, Path(args.figures) / "rl.svg")


def people(count: int, seed: int) -> list[tuple[str, int, str]]:
    draw = random.Random(seed)
    return [(draw.choice(NAMES), draw.randint(18, 80), draw.choice(CITIES)) for _ in range(count)]


def prompt(name: str, age: int, city: str) -> str:
    return f"Describe {name}, {age}, from {city}."


def supervised(task: str, folder: Path) -> str:
    """A model's folder: whet-tiny that was shown the form in one answer of five."""
    draw = random.Random(1)
    rows = []
    for name, age, city in people(600, 0):
        wanted = draw.random() < 0.2
        if task == "json":
            right = json.dumps({"name": name, "age": age, "city": city})
            other = f"{name} is {age} years old and lives in {city}."
        else:
            short = [f"{name} is {age}.", f"{name} lives in {city}.", f"{name} is {age} and lives in {city}."]
            right = f"{name} is {age} years old, lives in {city} and likes the old town there."
            other = draw.choice(short)
        rows.append({"prompt": prompt(name, age, city), "completion": right if wanted else other})
    run = whet.train(
        "whet-tiny",
        write(folder / f"{task}-sft.jsonl", rows),
        method="full",
        train={"epochs": 3, "learning_rate": 5e-4},
        output=str(folder / f"{task}-sft"),
        quiet=True,
    )
    return str(Path(run.folder) / "model")


def reinforced(task: str, algorithm: str, seed: int, start: str, folder: Path, args: argparse.Namespace) -> Path:
    known = set(people(600, 0))
    asked = [{"prompt": prompt(*one)} for one in people(400, 1)]
    unseen = [{"prompt": prompt(*one)} for one in people(300, 2) if one not in known][:200]
    run = whet.train(
        start,
        write(folder / f"{task}-train.jsonl", asked),
        validation=write(folder / f"{task}-test.jsonl", unseen),
        objective={
            "kind": algorithm,
            "grader": GRADERS[task],
            "watch": EXACT[task],
            "max_new_tokens": 48,
            **SETTINGS[algorithm],
        },
        train={
            "max_steps": args.steps,
            "batch_size": args.batch_size,
            "learning_rate": args.learning_rate,
            "seed": seed,
            "lr_scheduler_type": "constant",
            "evaluate_every": 5,
            "load_best": False,
        },
        output=str(folder / f"{task}-{algorithm}-{seed}"),
        quiet=True,
    )
    return Path(run.folder)


def held_out(run: Path) -> list[tuple[int, float]]:
    """(step, share of greedy answers to held-out prompts that are right)."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["evaluation"]["watched"]) for line in lines if "evaluation" in line]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def plot(curves: dict[tuple[str, str], list[list[tuple[int, float]]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    tasks = list(dict.fromkeys(task for task, _ in curves))
    figure, axes = pyplot.subplots(1, len(tasks), figsize=(4.6 * len(tasks), 3.2), sharey=True, squeeze=False)
    colours = {"grpo": "#2563eb", "ppo": "#d97706"}
    for task, ax in zip(tasks, axes[0], strict=True):
        for (of, algorithm), found in curves.items():
            if of != task:
                continue
            for number, curve in enumerate(found):
                ax.plot(*zip(*curve, strict=True), color=colours[algorithm], alpha=0.6, linewidth=1.4,
                        label=algorithm.upper() if number == 0 else None)  # fmt: skip
        ax.set_title(task, fontsize=10)
        ax.set_xlabel("step")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_ylim(0, 1.02)
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("right on held-out prompts")
    axes[0][-1].legend(frameon=False, loc="lower right")
    figure.tight_layout()
    figure.savefig(path)
    print(f"plot: {path}")


if __name__ == "__main__":
    main()
