"""What the benches beside TRL share: sides that are measured in processes of their own, in turns."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from typing import Any

from sft import SHAPES

Rounds = dict[str, list[dict[str, Any]]]
"""What each side said of itself, a round at a time."""


def common(parser: argparse.ArgumentParser, prompt: int, answer: int) -> None:
    """The arguments that these benches share."""
    add = parser.add_argument
    add("--model", default="llama-135m", choices=list(SHAPES))
    add("--prompt", type=int, default=prompt, help="tokens")
    add("--answer", type=int, default=answer, help="tokens of an answer")
    add("--steps", type=int, default=3, help="of one round; the first is not timed")
    add("--rounds", type=int, default=2)
    add("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    add("--side", help=argparse.SUPPRESS)  # set for the processes that measure


def in_turns(script: str, arguments: argparse.Namespace) -> Rounds:
    """Run the script again for each side, every second round the other way about. A side prints JSON as its last
    line."""
    sides = ["whet", "TRL weights", "TRL autocast"] if arguments.dtype == "bfloat16" else ["whet", "TRL float32"]
    rounds: Rounds = {side: [] for side in sides}
    for number in range(arguments.rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            print(f"round {number + 1}: {side}", file=sys.stderr, flush=True)
            command = [sys.executable, script, *sys.argv[1:], "--side", side]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{side} failed:\n{done.stderr[-4000:]}")
            rounds[side].append(json.loads(done.stdout.strip().splitlines()[-1]))
    return rounds


def middle(rounds: Rounds, side: str, name: str) -> float:
    """The median of a side's rounds."""
    return statistics.median(one[name] for one in rounds[side])


def fastest(rounds: Rounds, name: str) -> float:
    """Of the sides that are not whet's, the highest median."""
    return max(middle(rounds, side, name) for side in rounds if side != "whet")
