"""Predicted peak memory beside measured: whole runs of `whet train` on the CPU, each in a process of its own.

    python bench/memory.py
    python bench/memory.py --only full,lora --json

What is measured is `ru_maxrss` of a process that runs `whet.train.run.run` from a folder with weights to the saved
result, two optimiser steps on rows of one length. What is predicted comes from the config, the recipe and the lengths
alone (`whet.advise.memory`), in another process; the bytes of the bare process come from a third, which only imports.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHAPE: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536,
    "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 8192,
    "tie_word_embeddings": True, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 0,
}  # fmt: skip
"""A Llama of 135 million parameters (published dimensions, random weights)."""


@dataclass(frozen=True)
class Case:
    """One configuration. A step is `rows` rows of `length` tokens, in one pack."""

    name: str
    model: str
    method: str
    length: int
    rows: int
    checkpointing: bool = False
    quantize: str | None = None
    ragged: bool = False
    """Rows of 20 to `length` tokens, of which the fullest pack is looked up, and more steps."""


CASES = [
    Case("full", "llama-135m", "full", 256, 8),
    Case("lora", "llama-135m", "lora", 256, 8),
    Case("lora, checkpointing", "llama-135m", "lora", 256, 8, checkpointing=True),
    Case("lora on nf4", "llama-135m", "lora", 256, 8, quantize="nf4"),
    Case("lora, short rows", "llama-135m", "lora", 64, 8),
    Case("lora, long rows", "llama-135m", "lora", 1024, 2),
    Case("full, checkpointing", "llama-135m", "full", 256, 8, checkpointing=True),
    Case("prefix", "llama-135m", "prefix", 256, 8),
    Case("tiny full", "whet-tiny", "full", 256, 8),
    Case("tiny lora", "whet-tiny", "lora", 256, 8),
    Case("tiny lora, long rows", "whet-tiny", "lora", 1000, 2),
    Case("tiny lora, ragged rows", "whet-tiny", "lora", 400, 8, ragged=True),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", help="names of configurations, with commas between")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--work", help=argparse.SUPPRESS)  # set for the processes that measure
    parser.add_argument("--do", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.do:
        print(json.dumps(_work(arguments.do, Path(arguments.work))))
        return
    wanted = arguments.only.split(",") if arguments.only else [case.name for case in CASES]
    with tempfile.TemporaryDirectory() as folder:
        _process(folder, "make")
        bare = _process(folder, "imports")["peak"]
        rows = [_compare(folder, case, bare) for case in CASES if case.name in wanted]
    print(json.dumps({"bare_process": bare, "cases": rows}, indent=1)) if arguments.json else _show(rows, bare)


def _compare(folder: str, case: Case, bare: int) -> dict[str, Any]:
    print(case.name, file=sys.stderr, flush=True)
    predicted = _process(folder, f"predict:{case.name}")
    parts = {**predicted["parts"], "process": bare}
    measured = _process(folder, f"run:{case.name}")["peak"]
    total = sum(parts.values())
    return {**vars(case), "moment": predicted["moment"], "parts": parts, "predicted": total, "measured": measured,
            "ratio": total / measured}  # fmt: skip


def _process(folder: str, what: str) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", __file__, "--work", folder, "--do", what]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    if done.returncode:
        sys.exit(f"{what} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])  # type: ignore[no-any-return]


def _work(what: str, folder: Path) -> dict[str, Any]:
    """One of the processes."""
    kind, _, name = what.partition(":")
    case = next((case for case in CASES if case.name == name), CASES[0])
    if kind == "make":
        _make(folder)
    elif kind == "predict":
        return _predict(_recipe(case, folder), case.ragged)
    elif kind == "run":
        from whet.train.run import run

        run(_recipe(case, folder), quiet=True)
    elif kind == "imports":
        import torch

        import whet.train.run  # noqa: F401

        for dtype in (torch.float32, torch.bfloat16):  # the libraries of products are loaded at the first one
            weight = torch.ones(64, 64, dtype=dtype, requires_grad=True)
            (weight @ weight).sum().backward()
    return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def _make(folder: Path) -> None:
    """The model's folder, with whet-tiny's tokenizer, and rows that are longer than any case takes."""
    import numpy as np
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from whet.models.load import load_tokenizer
    from whet.recipe import ModelPart

    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(**SHAPE), dtype=torch.bfloat16).save_pretrained(
        folder / "model"
    )
    load_tokenizer(ModelPart()).save_pretrained(folder / "model")
    words = "the cat sat on the mat and looked at the rain "
    lengths = np.random.default_rng(0).integers(60, 1400, 400)  # characters, four or so a token
    texts = {
        "rows.jsonl": [f"{number} " + words * 120 for number in range(40)],
        "ragged.jsonl": [(f"{number} " + words * 40)[:length] for number, length in enumerate(lengths)],
    }
    for name, rows in texts.items():
        (folder / name).write_text("".join(json.dumps({"text": row}) + "\n" for row in rows), encoding="utf-8")


def _recipe(case: Case, folder: Path) -> Any:
    from whet.recipe import check_recipe

    data, steps = ("ragged.jsonl", 40) if case.ragged else ("rows.jsonl", 2)
    name = case.model if case.model == "whet-tiny" else str(folder / "model")
    tree = {
        "model": {"name": name, "quantize": case.quantize}, "data": str(folder / data), "validation": 0.2,
        "method": case.method, "preflight": {"max_loss_share": 1}, "samples": 0,
        "train": {"max_length": case.length, "batch_size": case.rows, "max_steps": steps, "checkpoint_every": 40,
                  "gradient_checkpointing": case.checkpointing},
        "output": str(folder / "runs" / case.name.replace(" ", "-")),
    }  # fmt: skip
    return check_recipe(tree, "bench/memory.py")


def _predict(recipe: Any, ragged: bool) -> dict[str, Any]:
    from whet.advise.fit import packs_of
    from whet.advise.memory import forecast
    from whet.models.load import load_config, load_tokenizer
    from whet.train.start import max_length_of, rows_of

    config, sizes = load_config(recipe.model), 1
    lengths = [recipe.train.max_length - 1] * recipe.train.batch_size
    if ragged:
        rows = rows_of(recipe, load_tokenizer(recipe.model), max_length_of(recipe, config)).prepared.train
        lengths, sizes = packs_of(recipe, rows)
    found = forecast(recipe, config, lengths, process=0, sizes=sizes)
    return {"parts": found.parts, "moment": found.moment}


def _show(rows: list[dict[str, Any]], bare: int) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("configuration", "tokens", "predicted", "measured", "ratio", "fullest at", "parts (MB)", box=None)
    for row in rows:
        parts = ", ".join(f"{name} {size / 1e6:,.0f}" for name, size in row["parts"].items() if size > 5e5)
        table.add_row(row["name"], f"{row['rows']} x {row['length']}", f"{row['predicted'] / 1e9:.2f} GB",
                      f"{row['measured'] / 1e9:.2f} GB", f"{row['ratio']:.2f}", row["moment"], parts)  # fmt: skip
    Console(width=200).print(table)
    print(f"a process that has only imported: {bare / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
