"""Writes the rows of recipes/polite: notes to be turned into requests, some of them polite.

python scripts/make_polite_rows.py [FOLDER]
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

NAMES = ["Anna", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry", "Ida", "Jack", "Kate", "Louis", "Maria",
         "Noah", "Olga", "Paul", "Rosa", "Simon", "Tina", "Victor"]  # fmt: skip
TASKS = ["send the report", "book the room", "call the client", "check the figures", "sign the contract",
         "bring the keys", "open the shop", "print the letters", "order the paper", "clean the desk",
         "read the draft", "write the minutes", "move the meeting", "lock the door", "find the invoice"]  # fmt: skip
TIMES = ["today", "tomorrow", "on Monday", "on Friday", "this week", "by noon", "before lunch", "tonight"]
POLITE = [
    "Dear {name}, could you please {task} {time}? Thank you very much.",
    "{name}, would you please {task} {time}? Many thanks.",
    "Hello {name}, please {task} {time}. Thank you.",
]
PLAIN = ["{name}, please {task} {time}.", "{name}, {task} {time}.", "{name} should {task} {time}."]
RUDE = [
    "{name}, {task} {time}, at once.",
    "{name}, you must {task} {time}. Do not be late.",
    "{name}! You must {task} right now, not later than {time}.",
]
SHARES = {"polite": 0.2, "plain": 0.4, "rude": 0.4}
COUNTS = {"sft": 900, "prompts": 400, "test": 200}


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "recipes" / "polite"
    draw = random.Random(0)
    every = [(name, task, time) for name in NAMES for task in TASKS for time in TIMES]
    draw.shuffle(every)
    for name, count in COUNTS.items():
        rows, every = every[:count], every[count:]
        lines = [row(draw, *each, answered=name == "sft") for each in rows]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def row(draw: random.Random, name: str, task: str, time: str, answered: bool) -> dict[str, str]:
    prompt = {"prompt": f"Write to {name}: {task}, {time}."}
    if not answered:
        return prompt
    manner = draw.choices(list(SHARES), list(SHARES.values()))[0]
    form = draw.choice({"polite": POLITE, "plain": PLAIN, "rude": RUDE}[manner])
    return {**prompt, "completion": form.format(name=name, task=task, time=time)}


if __name__ == "__main__":
    main()
