"""Direct preference optimisation side by side with TRL's DPOTrainer: pairs a second, memory, and the same loss.

    python bench/dpo.py                      # a 135M Llama, prompts of 256 tokens, answers of 64, LoRA, bfloat16
    python bench/dpo.py --batch-size 2 --model tiny --steps 4

Both sides get one model (same random weights), the same pairs in the same order, the same LoRA, AdamW, clipping, and
the reference is the model with its adapter off. Each is measured in a process of its own, in turns. What is counted:
pairs over seconds of whole optimiser steps, after one to warm up. whet is timed with the reference computed in the run,
and with it kept on disk from an earlier epoch or run; TRL computes it in every step (its default), with bfloat16
weights and with autocast, and the ratios are against the faster one. The loss of the first step is log 2 whatever the
weights, so what is compared is the first gradient's norm and the loss of the last step.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sft import LEARNING_RATE, make_model
from sft import adapt as with_lora
from sides import Rounds, common, fastest, in_turns, middle

BETA = 0.1


@dataclass(frozen=True)
class Measured:
    """One side, one round. `kept` is the pairs a second where the reference is there already."""

    pairs_per_second: float
    kept: float
    peak_bytes: int
    gradient_norm: float
    loss: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common(parser, prompt=256, answer=64)
    parser.add_argument("--batch-size", type=int, default=4, help="pairs a step")
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(asdict(measure(arguments))))
        return
    show(in_turns(__file__, arguments))


def show(rounds: Rounds) -> None:
    theirs = fastest(rounds, "pairs_per_second")
    print(f"{'':24} {'pairs/s':>8} {'peak GB':>8} {'gradient':>9} {'loss':>9}")
    for side, found in rounds.items():
        for name, key in [("", "pairs_per_second"), *([(", reference kept", "kept")] if side == "whet" else [])]:
            print(f"{side + name:24} {middle(rounds, side, key):8.3f} {middle(rounds, side, 'peak_bytes') / 1e9:8.2f} "
                  f"{found[0]['gradient_norm']:9.4f} {found[0]['loss']:9.5f}")  # fmt: skip
    print(f"whet over the faster TRL: {middle(rounds, 'whet', 'pairs_per_second') / theirs:.2f}; "
          f"with the reference kept {middle(rounds, 'whet', 'kept') / theirs:.2f}")  # fmt: skip


def measure(arguments: argparse.Namespace) -> Measured:
    import torch

    low = arguments.dtype == "bfloat16" and arguments.side != "TRL autocast"
    model, tokenizer = make_model(arguments.model, torch.bfloat16 if low else torch.float32, "cpu")
    arguments.method, arguments.checkpointing = "lora", False
    pairs = make_pairs(arguments, model.config.vocab_size)
    run = run_whet if arguments.side == "whet" else run_trl
    seconds, kept, norm, loss = run(with_lora(model, arguments), tokenizer, pairs, arguments)
    timed = arguments.batch_size * (arguments.steps - 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Measured(timed / seconds, timed / kept, peak, norm, loss)


def make_pairs(arguments: argparse.Namespace, vocabulary: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(prompt, chosen, rejected) of random tokens."""
    draw = np.random.default_rng(0)
    sizes = (arguments.prompt, arguments.answer, arguments.answer)
    count = arguments.batch_size * arguments.steps
    return [tuple(draw.integers(3, vocabulary, size, dtype=np.int32) for size in sizes) for _ in range(count)]


Ran = tuple[float, float, float, float]
"""Seconds of the timed steps, the same with the reference kept, the first gradient's norm, the last loss."""


def run_whet(model: Any, tokenizer: Any, pairs: list[Any], arguments: argparse.Namespace) -> Ran:
    """whet's engine, driven as `whet train` drives it."""
    import torch
    from accelerate import Accelerator

    from whet.models.language_model import LanguageModel
    from whet.models.probe import probe
    from whet.recipe import DPOPart, TrainPart
    from whet.rows import Row, given, with_companions
    from whet.train.engine import Engine

    path = probe(model, model.config.vocab_size).path
    dtype = getattr(torch, arguments.dtype)
    engine = Engine(LanguageModel(model, path), DPOPart(beta=BETA), TrainPart(), Accelerator(cpu=True), dtype)
    engine.language_model.train()

    def row(prompt: np.ndarray, answer: np.ndarray, role: str, *companions: Row) -> Row:
        ids = np.concatenate([prompt, answer])
        return Row(ids, np.arange(len(ids)) >= len(prompt), role=role, companions=companions)

    rows = [row(prompt, c, "chosen", row(prompt, r, "rejected")) for prompt, c, r in pairs]
    reference, steps, losses, norms = [], [], [], []
    for start in range(0, len(rows), arguments.batch_size):
        flat, _ = with_companions(rows[start : start + arguments.batch_size])
        began = time.perf_counter()
        with engine.method.base(model):
            flat = [given(one, reference=logps.numpy()) for one, logps in zip(flat, engine.scores(flat), strict=True)]
        between = time.perf_counter()
        chosen = [row_with(flat[at], flat[at + 1]) for at in range(0, len(flat), 2)]
        losses.append(engine.forward_backward(chosen).loss)
        norms.append(engine.optim_step(LEARNING_RATE))
        reference.append(between - began)
        steps.append(time.perf_counter() - between)
    kept = sum(steps[1:])
    return kept + sum(reference[1:]), kept, norms[0], losses[-1]


def row_with(chosen: Any, rejected: Any) -> Any:
    from dataclasses import replace

    return replace(chosen, companions=(rejected,))


def run_trl(model: Any, tokenizer: Any, pairs: list[Any], arguments: argparse.Namespace) -> Ran:
    """TRL's DPOTrainer, with its pairs in their order."""
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from transformers import TrainerCallback
    from trl import DPOConfig, DPOTrainer

    class InOrder(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *given: Any) -> Any:
            return dataset

        def _get_train_sampler(self, *given: Any) -> SequentialSampler:
            return SequentialSampler(self.train_dataset)

    class Clock(TrainerCallback):
        ends: list[float] = []  # noqa: RUF012  one trainer a process

        def on_step_end(self, *given: Any, **more: Any) -> None:
            self.ends.append(time.perf_counter())

    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    dataset = Dataset.from_dict({name: [pair[at].tolist() for pair in pairs] for at, name in enumerate(names)})
    with tempfile.TemporaryDirectory() as folder:
        config = DPOConfig(
            output_dir=folder, per_device_train_batch_size=arguments.batch_size, max_steps=arguments.steps, beta=BETA,
            learning_rate=LEARNING_RATE, lr_scheduler_type="constant", weight_decay=0.0, max_grad_norm=1.0,
            bf16=arguments.side == "TRL autocast", max_length=None, gradient_checkpointing=False, use_cpu=True,
            dataloader_pin_memory=False, logging_first_step=True, logging_steps=1, save_strategy="no",
            report_to="none", disable_tqdm=True,
        )  # fmt: skip
        trainer = InOrder(model, args=config, train_dataset=dataset, processing_class=tokenizer, callbacks=[Clock])
        trainer.train()
    lines = [line for line in trainer.state.log_history if "grad_norm" in line]
    seconds = Clock.ends[-1] - Clock.ends[0]
    return seconds, seconds, lines[0]["grad_norm"], lines[-1]["loss"]


if __name__ == "__main__":
    main()
