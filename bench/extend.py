"""whet-tiny with and without 200 words of a domain, trained alike: bits a byte on held-out rows, before and after.

    python bench/extend.py --data FOLDER --domain legal|medquad [--methods full lora] [--seeds 0 1] [--no-fit]

FOLDER holds domain/legal_cuad_clauses and domain/medquad. Rows are distinct, under 2,200 characters, and shuffled; 80
are held out, 320 clauses or 160 questions are trained on, in one pass of steps of 8. Words, counts and fit come from
the training rows alone.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

HELD_OUT, ROWS, LONGEST, WORDS = 80, {"legal": 320, "medquad": 160}, 2200, 200
RATES = {"full": 2e-3, "lora": 3e-3}
FIRST_NEW = 4096
"""whet-tiny's vocabulary: where new entries begin."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--domain", choices=ROWS, default="legal")
    parser.add_argument("--methods", nargs="+", choices=RATES, default=["full"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--no-fit", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        columns = split(arguments.data / "domain", arguments.domain, folder)
        for seed in arguments.seeds:
            bigger = folder / f"bigger-{seed}"
            fit = ["--no-fit"] if arguments.no_fit else []
            whet("tokens", "extend", "whet-tiny", str(folder / "train.jsonl"), "--columns", columns, "--add",
                 str(WORDS), "--seed", str(seed), "--output", str(bigger), *fit)  # fmt: skip
            for method in arguments.methods:
                without = trained(folder, "whet-tiny", method, seed)
                with_words = trained(folder, str(bigger), method, seed)
                print(f"{arguments.domain} {method} seed {seed}")
                for when, a, b in zip(("start", "end"), without, with_words, strict=True):
                    print(f"  {when:<6} without {a:.3f}  with {b:.3f}  ({b / a - 1:+.1%})  bits a byte", flush=True)


def split(data: Path, domain: str, folder: Path) -> str:
    """Write train.jsonl and held.jsonl; return the columns that are text."""
    path = data / ("legal_cuad_clauses/cuad_clauses.jsonl" if domain == "legal" else "medquad/medquad_3000.jsonl")
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if domain == "legal":
        rows = [{"text": row["text"]} for row in found]
    else:
        rows = [{"prompt": row["question"], "completion": row["answer"]} for row in found]
    distinct = {json.dumps(row) for row in rows if sum(map(len, row.values())) < LONGEST}
    lines = sorted(distinct)
    random.Random(0).shuffle(lines)
    (folder / "held.jsonl").write_text("\n".join(lines[:HELD_OUT]), encoding="utf-8")
    (folder / "train.jsonl").write_text("\n".join(lines[HELD_OUT : HELD_OUT + ROWS[domain]]), encoding="utf-8")
    return ",".join(rows[0])


def trained(folder: Path, model: str, method: str, seed: int) -> tuple[float, float]:
    """Held-out bits a byte before and after training. LoRA trains the new rows of the embeddings too."""
    run = folder / f"{method}-{Path(model).name}-{seed}"
    words = [f"method={method}", f"train.learning_rate={RATES[method]}"]
    if method == "lora" and model != "whet-tiny":
        new = ",".join(str(FIRST_NEW + n) for n in range(WORDS))
        words.append(f"method.trainable_token_indices=[{new}]")
    whet("train", f"model={model}", f"data={folder / 'train.jsonl'}", f"validation={folder / 'held.jsonl'}",
         "train.epochs=1", "train.batch_size=8", "train.max_length=1024", f"train.seed={seed}", "samples=0",
         f"output={run}", *words)  # fmt: skip
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return summary["before"]["bits_per_byte"], summary["after"]["bits_per_byte"]


def whet(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "whet", *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)


if __name__ == "__main__":
    main()
