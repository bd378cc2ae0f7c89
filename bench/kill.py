"""kill -9 at random moments of a run: does each resume end with exactly the weights of the undisturbed run?

    python bench/kill.py --kills 10
    python bench/kill.py --model FOLDER --method full data=my.jsonl

One run is left alone; another is killed and resumed `--kills` times and then left to end. Kills fall anywhere: while
the model loads, in a step, in an evaluation, while a checkpoint or the result is written. Exits with 1 where a bit
differs.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safetensors.torch import load_file

DEFAULT = [
    "data=quickstart#80",
    "train.max_steps=40",
    "train.checkpoint_every=3",
    "train.evaluate_every=5",
    "samples=1",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", default=DEFAULT, metavar="key=value")
    parser.add_argument("--model", default="whet-tiny")
    parser.add_argument("--method", default="lora")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="whet-kill-"))
    words = [f"model={args.model}", f"method={args.method}", *args.settings]
    began = time.perf_counter()
    subprocess.run(_train([*words, f"output={folder / 'whole'}"]), check=True)
    seconds = time.perf_counter() - began
    print(f"undisturbed: {seconds:.0f} s")
    _killed(words, folder / "killed", args.kills, seconds, random.Random(args.seed))
    same = _same(folder / "whole", folder / "killed")
    print("weights are the same bit for bit" if same else "WEIGHTS DIFFER")
    shutil.rmtree(folder)
    sys.exit(0 if same else 1)


def _train(words: list[str]) -> list[str]:
    return [sys.executable, "-m", "whet", "train", "--quiet", *words]


def _killed(words: list[str], folder: Path, kills: int, seconds: float, draw: random.Random) -> None:
    """Kill and resume `kills` times, each after a random part of what a whole run takes, then let it end."""
    done = 0
    while True:
        begun = (folder / "recipe.yaml").exists()
        process = subprocess.Popen(_train(["--resume", str(folder)] if begun else [*words, f"output={folder}"]))
        if done == kills:
            if process.wait():
                sys.exit("the last resume failed")
            return
        moment = draw.uniform(0.2, 0.9) * seconds
        try:
            process.wait(moment)
            print(f"had ended before {moment:.1f} s; begins anew")
            shutil.rmtree(folder)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            done += 1
            inside = sorted(path.name for path in (folder / "checkpoints").glob("*")) if folder.exists() else []
            print(f"kill {done}: after {moment:.1f} s; checkpoints {', '.join(inside) or 'none yet'}")


def _same(a: Path, b: Path) -> bool:
    for path in ("adapter/adapter_model.safetensors", "model/model.safetensors"):
        if (a / path).exists():
            one, other = load_file(a / path), load_file(b / path)
            return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)
    return False


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
