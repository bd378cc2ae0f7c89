"""Rows a second of every step of curation, as the ledger has them, on rows of about 1 kB that are made here.

    python bench/curation.py                    # 20,000 rows: a question, and an answer of running text
    python bench/curation.py --rows 100000 --steps repair duplicates

A step's rate counts its own time summed over processes (steps that see rows apart), or the whole of it (those that see
all rows together). The last column is the whole command's, start and files included.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

SENTENCES = (
    "The {a} of the {b} was moved to the other side of the river, and the {c} stayed where it was.",
    "In the spring of {n} people said that the {a} would never be finished.",
    "Nobody had asked {name} about the {b}, although the {c} had been in the family for years.",
    "It cost {n} coins, which was more than the {a} had brought in since the {b} was built.",
    "When the {c} came back, the {a} and the {b} were as they had been, and the lamp was still lit.",
)
NOUNS = [
    "mill",
    "bridge",
    "garden",
    "letter",
    "house",
    "boat",
    "school",
    "market",
    "road",
    "tower",
    "field",
    "harvest",
    "clock",
    "church",
    "shop",
    "wall",
]
NAMES = ("Anna Keller", "Mr. Hughes", "Dr. Maria Santos", "the teacher", "her brother", "James")
STEPS: dict[str, dict[str, object]] = {
    "repair": {}, "quality": {}, "language": {}, "inconsistencies": {}, "duplicates": {},
    "decontaminate": {"against": ["held-out.jsonl"]}, "split": {},
    "select": {"target": ["held-out.jsonl"], "keep": 0.2},
    "balance": {"by": "topic", "cap": 2000}, "augment": {"by": "noise"}, "personal": {}, "toxic": {}, "groups": {},
    "sample": {"rows": 1000},
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=list(STEPS))
    args = parser.parse_args()
    from whet.data.curation.pipeline import curate

    with tempfile.TemporaryDirectory(prefix="whet-steps-") as name:
        folder = Path(name)
        write(folder / "rows.jsonl", args.rows, 0)
        write(folder / "held-out.jsonl", 200, 1)
        print(f"{'step':16} {'rows a second':>14} {'whole command':>14}")
        for step in args.steps:
            settings = {
                key: [str(folder / file) for file in value] if isinstance(value, list) else value
                for key, value in STEPS[step].items()
            }
            begin = time.perf_counter()
            done = curate(str(folder / "rows.jsonl"), [{step: settings}], folder / f"{step}.jsonl")
            entry = done.ledger.steps[0]
            rate = entry.rows_in / max(entry.seconds, 1e-9)
            print(f"{step:16} {rate:14,.0f} {args.rows / (time.perf_counter() - begin):14,.0f}", flush=True)


def write(path: Path, rows: int, seed: int) -> None:
    """Rows of a prompt and an answer of about 1 kB, a topic, and a few names and numbers."""
    draw = random.Random(seed)
    with path.open("w") as file:
        for number in range(rows):
            sentences = [_sentence(draw) for _ in range(11)]
            row = {"prompt": f"What of the {draw.choice(NOUNS)}, number {number}?", "completion": " ".join(sentences)}
            file.write(json.dumps(row | {"topic": draw.choice("abcde")}) + "\n")


def _sentence(draw: random.Random) -> str:
    a, b, c = draw.sample(NOUNS, 3)
    return draw.choice(SENTENCES).format(a=a, b=b, c=c, n=draw.randint(100, 2000), name=draw.choice(NAMES))


if __name__ == "__main__":
    main()
