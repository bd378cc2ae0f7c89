"""Real preferences: a reward model's accuracy and DPO's margin on held-out pairs, with intervals.

    python bench/preferences.py --data FOLDER                       # all sets, whet-tiny
    python bench/preferences.py --data FOLDER --sets rasbt --limit 300

FOLDER holds preference/hh_rlhf, preference/hh_rlhf_helpful and preference/rasbt_1100. The reward model and DPO learn
from the same pairs, a tenth is held out; both begin from a supervised start on the chosen answers. Accuracies have the
exact binomial interval (Clopper and Pearson 1934): a reward model is above chance where that begins above one half.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import whet

SETS = {
    "rasbt": ["preference/rasbt_1100/instruction-data-with-preference.json"],
    "harmless": ["preference/hh_rlhf/harmless-base.test.jsonl.gz"],
    "helpful": [
        "preference/hh_rlhf_helpful/helpful-base_test.jsonl.gz",
        "preference/hh_rlhf_helpful/helpful-online_test.jsonl.gz",
        "preference/hh_rlhf_helpful/helpful-rejection-sampled_test.jsonl.gz",
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--limit", type=int, help="pairs of each set; all if none")
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--max-length", type=int, default=768, help="longer pairs are left out, and counted")
    args = parser.parse_args()
    print("| pairs | held out | reward accuracy (95 %) | DPO margin | DPO accuracy (95 %) | perplexity of chosen |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="whet-preferences-") as name:
        for chosen in args.sets:
            print(line(chosen, args, Path(name)), flush=True)


def line(name: str, args: argparse.Namespace, folder: Path) -> str:
    data = [str(args.data / path) for path in SETS[name]]
    common: dict[str, Any] = {
        "train": {"epochs": args.epochs, "max_length": args.max_length},
        "preflight": {"too_long": "drop", "nothing_to_learn": "drop", "max_loss_share": 1.0},
        "samples": 0,
        "quiet": True,
    }
    if args.limit:
        data = [f"{path}#{args.limit // len(data)}" for path in data]
    start = supervised(name, data, folder, common)
    reward = whet.train(start, data, objective="reward", output=str(folder / f"{name}-reward"), **common)
    dpo = whet.train(start, data, objective="dpo", output=str(folder / f"{name}-dpo"), **common)
    rows = reward.summary["validation_rows"]
    before, after = dpo.summary["before"], dpo.summary["after"]
    return (
        f"| {name} | {rows} | {share(reward.summary['after']['accuracy'], rows)} "
        f"| {before['margin']:.3f} -> {after['margin']:.3f} | {share(after['accuracy'], rows)} "
        f"| {before['perplexity']:.2f} -> {after['perplexity']:.2f} |"
    )


def supervised(name: str, data: list[str], folder: Path, common: dict[str, Any]) -> str:
    """A model's folder: whet-tiny after one epoch on the chosen answers of the pairs that are not held out."""
    from whet.data import read, split
    from whet.recipe import DataPart

    train, _ = split(read([DataPart(path=path) for path in data], "reward"), 0.1, 0)
    path = folder / f"{name}-chosen.jsonl"
    rows = [{"messages": [turn | {"weight": 0} if turn["role"] == "assistant" else turn for turn in one.prompt]
             + one.chosen} for one in train]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    whet.train("whet-tiny", str(path), method="full", output=str(folder / f"{name}-sft"), **common)
    return str(folder / f"{name}-sft" / "model")


def share(accuracy: float, rows: int) -> str:
    from scipy.stats import beta

    right = accuracy * rows
    low = beta.ppf(0.025, right, rows - right + 1) if right else 0.0
    high = beta.ppf(0.975, right + 1, rows - right) if right < rows else 1.0
    return f"{accuracy:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
