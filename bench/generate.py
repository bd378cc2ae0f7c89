"""Greedy answers to many prompts beside transformers' `model.generate`, in one run: the same tokens, how much faster?

    python bench/generate.py                          # 500 prompts behind one preamble, whet-tiny, float32
    python bench/generate.py --shots 0                # prompts that share next to nothing
    python bench/generate.py --prompts FILE.jsonl --model FOLDER

A prompt is a few-shot preamble (rows of the package, answered) and one more question; --prompts takes JSON lines with
`prompt`, used as they are. `model.generate` gets the prompts sorted by length, padded at the left, in batches of each size
in --theirs. The sides take turns, and medians count; processor seconds stand beside, for machines that others use too. The
probe of the model is part of the first round. Exits with 1 where tokens differ, unless the logits of the two were within
1e-4 of each other where they part.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.utils import logging

from whet.models.generate import sample
from whet.models.load import load

TIE = 1e-4  # of logits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(_package() / "models" / "whet-tiny"), help="a folder or a name")
    parser.add_argument("--prompts", type=Path, help="JSON lines with `prompt`; made up if none")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--shots", type=int, default=2, help="answered examples before the question")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64, help="ours")
    parser.add_argument("--theirs", type=int, nargs="+", default=[16, 64], help="batch sizes of model.generate")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.set_verbosity_error()
    loaded = load(args.model, torch.float32, args.device)
    model, tokenizer = loaded.model.eval(), loaded.tokenizer
    prompts = [tokenizer(text).input_ids for text in texts(args)]
    stop = {token for token in (tokenizer.eos_token_id,) if token is not None}
    times: dict[str, list[tuple[float, float]]] = {}
    found: dict[str, list[list[int]]] = {}

    def timed(name: str, answer: Any) -> None:
        begin, processor = time.perf_counter(), time.process_time()
        found[name] = answer()
        times.setdefault(name, []).append((time.perf_counter() - begin, time.process_time() - processor))

    for _ in range(args.rounds):
        for size in args.theirs:
            timed(f"generate {size}", lambda size=size: theirs(model, prompts, stop, args.max_new_tokens, size))
        timed("whet", lambda: ours(model, tokenizer, prompts, stop, args.max_new_tokens, args.batch_size))
    report(model, prompts, found, times)


def texts(args: argparse.Namespace) -> list[str]:
    """The prompts as text."""
    if args.prompts:
        rows = [json.loads(line) for line in args.prompts.read_text().splitlines() if line.strip()]
        return [row["prompt"] for row in rows][: args.count]
    lines = (_package() / "data" / "quickstart" / "rows.jsonl").read_text().splitlines()
    turns = [[turn["content"] for turn in json.loads(line)["messages"][-2:]] for line in lines]
    shots, asked = turns[: args.shots], turns[args.shots : args.shots + args.count]
    preamble = "".join(f"Note: {note}\nE-mail: {mail}\n\n" for note, mail in shots)
    return [f"{preamble}Note: {note}\nE-mail:" for note, _ in asked]


def ours(
    model: Any, tokenizer: Any, prompts: list[list[int]], stop: set[int], length: int, size: int
) -> list[list[int]]:
    found = sample(model, tokenizer, prompts, stop_ids=stop, max_new_tokens=length, batch_size=size)
    return [completion.ids for completion in found]


def theirs(model: Any, prompts: list[list[int]], stop: set[int], length: int, size: int) -> list[list[int]]:
    """Batches of like lengths; answers cut behind their stop token."""
    settings = GenerationConfig(
        max_new_tokens=length, do_sample=False, eos_token_id=sorted(stop) or None, pad_token_id=0
    )
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    found: list[list[int]] = [[] for _ in prompts]
    for begin in range(0, len(order), size):
        batch = order[begin : begin + size]
        longest = max(len(prompts[row]) for row in batch)
        ids = torch.tensor([[0] * (longest - len(prompts[row])) + prompts[row] for row in batch])
        mask = torch.tensor([[0] * (longest - len(prompts[row])) + [1] * len(prompts[row]) for row in batch])
        out = model.generate(
            input_ids=ids.to(model.device), attention_mask=mask.to(model.device), generation_config=settings
        )
        for row, answer in zip(batch, out[:, longest:].tolist(), strict=True):
            end = next((place for place, token in enumerate(answer) if token in stop), length - 1)
            found[row] = answer[: end + 1]
    return found


def report(
    model: Any, prompts: list[list[int]], found: dict[str, list[list[int]]], times: dict[str, list[tuple[float, float]]]
) -> None:
    """Print it all, and exit with 1 where tokens differ."""
    tokens = sum(map(len, found["whet"]))
    lengths = sorted(map(len, prompts))
    print(f"{len(prompts)} prompts of {lengths[0]} to {lengths[-1]} tokens (median {lengths[len(lengths) // 2]}),")
    print(f"{tokens / len(prompts):.1f} tokens an answer, {torch.get_num_threads()} threads, {model.device}")
    medians = {name: [statistics.median(kind) for kind in zip(*several, strict=True)] for name, several in times.items()}
    for name, (seconds, processor) in medians.items():
        each = " ".join(f"{one:.2f}" for one, _ in times[name])
        print(f"{name:12} {seconds:8.2f} s (rounds {each}), of the processor {processor:8.2f} s", end="  ")
        ratios = [theirs / mine for theirs, mine in zip(medians[name], medians["whet"], strict=True)]
        print(f"{ratios[0]:5.2f} and {ratios[1]:5.2f} times whet's")
    wrong = 0
    for name in found:
        parted = [row for row in range(len(prompts)) if found[name][row] != found["whet"][row]]
        gaps = [gap(model, prompts[row], found["whet"][row], found[name][row]) for row in parted]
        wrong += sum(one > TIE for one in gaps)
        if name != "whet":
            print(f"{name}: {len(prompts) - len(parted)} of {len(prompts)} answers the same, ties {len(parted)}"
                  + (f", the two likeliest up to {max(gaps):.1e} apart" if gaps else ""))  # fmt: skip
    sys.exit(wrong > 0)


def gap(model: Any, prompt: list[int], one: list[int], other: list[int]) -> float:
    """How far apart the two tokens are where two answers part, by the model's own forward on the row alone."""
    place = next(at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1])
    ids = torch.tensor([prompt + one[:place]], device=model.device)
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, -1]
    return float((logits[one[place]] - logits[other[place]]).abs())


def _package() -> Path:
    return Path(__file__).parents[1] / "src" / "whet"


if __name__ == "__main__":
    main()
