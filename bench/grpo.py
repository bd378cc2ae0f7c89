"""GRPO side by side with TRL's GRPOTrainer (no vLLM): samples a second, and memory.

    python bench/grpo.py                     # a 135M Llama, 2 prompts of 256 tokens, 8 answers of 64 to each, LoRA
    python bench/grpo.py --model tiny --steps 3 --rounds 1

Both sides get one model (same random weights), the same prompts, LoRA, AdamW, one update a step and no reference. A
reward that costs nothing (the share of even tokens) is given by both. Each side is measured in a process of its own,
in turns: answers over seconds of whole steps (draw, grade, learn), after one to warm up. Answers never end early, so
that both draw as many tokens. TRL in bfloat16 runs with bfloat16 weights and with autocast; the ratio is against the
faster one.
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
from sides import common, fastest, in_turns, middle


@dataclass(frozen=True)
class Measured:
    samples_per_second: float
    peak_bytes: int
    draw_share: float
    """Of the time that goes into drawing answers; whet only."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common(parser, prompt=256, answer=64)
    parser.add_argument("--prompts", type=int, default=2, help="a step")
    parser.add_argument("--generations", type=int, default=8, help="answers to each prompt")
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(asdict(measure(arguments))))
        return
    rounds = in_turns(__file__, arguments)
    print(f"{'':14} {'samples/s':>9} {'peak GB':>8} {'of it drawing':>14}")
    for side in rounds:
        share = middle(rounds, side, "draw_share")
        print(f"{side:14} {middle(rounds, side, 'samples_per_second'):9.3f} "
              f"{middle(rounds, side, 'peak_bytes') / 1e9:8.2f} {f'{share:.0%}' if share else '':>14}")  # fmt: skip
    ratio = middle(rounds, "whet", "samples_per_second") / fastest(rounds, "samples_per_second")
    print(f"whet over the faster TRL: {ratio:.2f}")


def measure(arguments: argparse.Namespace) -> Measured:
    import torch

    low = arguments.dtype == "bfloat16" and arguments.side != "TRL autocast"
    model, tokenizer = make_model(arguments.model, torch.bfloat16 if low else torch.float32, "cpu")
    model.config.use_cache = model.generation_config.use_cache = True
    arguments.method, arguments.checkpointing = "lora", False
    draw = np.random.default_rng(0)
    size = (arguments.prompts * arguments.steps, arguments.prompt)
    prompts = draw.integers(3, model.config.vocab_size, size).tolist()
    run = run_whet if arguments.side == "whet" else run_trl
    seconds, share = run(with_lora(model, arguments), tokenizer, prompts, arguments)
    samples = arguments.prompts * arguments.generations * (arguments.steps - 1)
    return Measured(samples / seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, share)


Ran = tuple[float, float]
"""Seconds of the timed steps, and which share of them went into drawing."""


def reward(ids: list[int]) -> float:
    return sum(token % 2 == 0 for token in ids) / max(1, len(ids))


def run_whet(
    model: Any, tokenizer: Any, prompts: list[list[int]], arguments: argparse.Namespace
) -> tuple[float, float]:
    """What the online loop does in a step."""
    import torch
    from accelerate import Accelerator

    from whet.graders import Grade
    from whet.models.generate import sample
    from whet.models.language_model import LanguageModel
    from whet.models.probe import probe
    from whet.recipe import GRPOPart, TrainPart
    from whet.rows import Row, read_at_end
    from whet.train.engine import Engine
    from whet.train.online import learn
    from whet.train.rollout import Graded, learnable

    path = probe(model, model.config.vocab_size).path
    grader = {"type": "string_check", "operation": "eq", "reference": ""}  # a recipe has one; it is not asked here
    part = GRPOPart(grader=grader, num_generations=arguments.generations, max_new_tokens=arguments.answer)
    dtype = getattr(torch, arguments.dtype)
    engine = Engine(LanguageModel(model, path), part, TrainPart(), Accelerator(cpu=True), dtype)
    engine.language_model.train()
    spent, drawn = [], []
    for step in range(arguments.steps):
        own = prompts[step * arguments.prompts : (step + 1) * arguments.prompts]
        own = [ids for ids in own for _ in range(arguments.generations)]
        began = time.perf_counter()
        answers = sample(
            model, tokenizer, own, stop_ids=[], max_new_tokens=arguments.answer, temperature=1.0, seed=step, logps=True
        )
        between = time.perf_counter()
        rows = [Row(*read_at_end(np.array(ids, np.int32))) for ids in own]
        grades = [Grade(reward(answer.ids)) for answer in answers]
        learn(engine, part, learnable(Graded(rows, [], answers, grades), engine, None, part, 0.0), LEARNING_RATE, step)
        spent.append(time.perf_counter() - began)
        drawn.append(between - began)
    return sum(spent[1:]), sum(drawn[1:]) / sum(spent[1:])


def run_trl(model: Any, tokenizer: Any, prompts: list[list[int]], arguments: argparse.Namespace) -> Ran:
    """TRL's GRPOTrainer on the same prompts."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    class Given(GRPOTrainer):
        """Prompts are numbers of rows; their tokens are taken as they are."""

        def _tokenize_prompts(self, asked: list[str], *more: Any) -> Any:
            return [prompts[int(number)] for number in asked], None, {}

    class Clock(TrainerCallback):
        ends: list[float] = []  # noqa: RUF012  one trainer a process

        def on_step_end(self, *given: Any, **more: Any) -> None:
            self.ends.append(time.perf_counter())

    def even(completion_ids: list[list[int]], **columns: Any) -> list[float]:
        return [reward(ids) for ids in completion_ids]

    tokenizer.eos_token = "<pad>"
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder, per_device_train_batch_size=arguments.prompts * arguments.generations,
            num_generations=arguments.generations, max_completion_length=arguments.answer, max_steps=arguments.steps,
            learning_rate=LEARNING_RATE, lr_scheduler_type="constant", weight_decay=0.0, max_grad_norm=1.0, beta=0.0,
            loss_type="grpo", bf16=arguments.side == "TRL autocast", gradient_checkpointing=False, use_cpu=True,
            dataloader_pin_memory=False, logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True,
            shuffle_dataset=False, generation_kwargs={"min_new_tokens": arguments.answer},
        )  # fmt: skip
        dataset = Dataset.from_dict({"prompt": [str(number) for number in range(len(prompts))]})
        trainer = Given(
            model, reward_funcs=[even], args=config, train_dataset=dataset, processing_class=tokenizer,
            callbacks=[Clock],
        )  # fmt: skip
        trainer.train()
    return Clock.ends[-1] - Clock.ends[0], 0.0


if __name__ == "__main__":
    main()
