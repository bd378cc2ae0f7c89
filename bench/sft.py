"""Supervised fine-tuning side by side with TRL's SFTTrainer and PEFT: speed, memory, and the same loss, in one run.

    python bench/sft.py --model llama-135m --rows ragged
    python bench/sft.py --model qwen3-0.6b --rows prefix --device cuda --liger

Both sides get one model (same random weights), the same rows in the same order, the same LoRA, AdamW, clipping. Each
is measured in a process of its own, in turns, so that peak memory is that side's and a noisy minute hits both. What is
counted: tokens of the rows (no padding) over seconds of whole optimiser steps, after some to warm up. TRL in bfloat16
is run with bfloat16 weights and with autocast, and the ratios are against the faster one.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

_QWEN3 = {"model_type": "qwen3", "vocab_size": 151_936, "head_dim": 128, "num_key_value_heads": 8, "rope_theta": 1e6,
          "rms_norm_eps": 1e-6, "max_position_embeddings": 40_960, "tie_word_embeddings": True}  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {"model_type": "llama", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128,
             "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True},
    "llama-135m": {"model_type": "llama", "vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536,
                   "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
                   "max_position_embeddings": 8192, "tie_word_embeddings": True},
    "qwen3-0.6b": _QWEN3 | {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
                            "num_attention_heads": 16},
    "qwen3-4b": _QWEN3 | {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36,
                          "num_attention_heads": 32},
}  # fmt: skip
"""Published dimensions; the weights are random, which changes neither speed nor memory."""

WARM_UP = {"cpu": 1, "cuda": 4}
"""Steps of a round that are not timed: on a GPU, kernels are compiled in them."""

LEARNING_RATE = 2e-4
R, ALPHA = 16, 32


@dataclass(frozen=True)
class Measured:
    """One side, one round. `loss` and `gradient_norm` are of the first step, before any update."""

    tokens_per_second: float
    peak_bytes: int
    loss: float
    gradient_norm: float
    operations_a_token: float


def main() -> None:
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.steps <= WARM_UP[arguments.device]:
        parser.error(f"--steps must be over {WARM_UP[arguments.device]}: these warm up")
    if arguments.side:
        print(json.dumps(asdict(measure(arguments))))
        return
    sides = _sides(arguments)
    rounds: dict[str, list[Measured]] = {side: [] for side in sides}
    for number in range(arguments.rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            print(f"round {number + 1}: {side}", file=sys.stderr, flush=True)
            rounds[side].append(_in_own_process(side))
    result = summarise(rounds, arguments)
    print(json.dumps(result, indent=1)) if arguments.json else show(result)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--model", default="llama-135m", help=f"{', '.join(SHAPES)}, or a model's folder or name on the hub")
    add("--rows", default="ragged", help="ragged, prefix, or a file that `whet train` reads (needs a real model)")
    add("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    add("--method", choices=["lora", "full"], default="lora")
    add("--steps", type=int, default=6, help="of one round; the first (on a GPU, four) are not timed")
    add("--rounds", type=int, default=3)
    add("--batch-size", type=int, help="rows a step (8; 12 for prefix)")
    add("--scale", type=int, default=1, help="times the length of the made-up rows")
    add("--checkpointing", action="store_true", help="recompute activations in backward, on both sides")
    add("--padding-free", action="store_true", help="TRL with padding_free=True (its documents ask for FlashAttention)")
    add("--liger", action="store_true", help="TRL with use_liger_kernel=True (CUDA)")
    add("--device", choices=["cpu", "cuda"], default="cpu")
    add("--json", action="store_true")
    add("--side", help=argparse.SUPPRESS)  # set for the processes that measure
    return parser


def _sides(arguments: argparse.Namespace) -> list[str]:
    """whet, and the ways to run TRL in this precision."""
    if arguments.dtype == "float32":
        return ["whet", "TRL float32"]
    if arguments.method == "full":  # updates of a bfloat16 weight round to nothing, so nobody trains that way
        return ["whet", "TRL autocast"]
    return ["whet", "TRL weights", "TRL autocast"]


def _in_own_process(side: str) -> Measured:
    command = [sys.executable, __file__, *sys.argv[1:], "--side", side]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stderr[-4000:]}")
    return Measured(**json.loads(done.stdout.strip().splitlines()[-1]))


# What both sides share -----------------------------------------------------------------------------------------------


def measure(arguments: argparse.Namespace) -> Measured:
    """One round of one side, in this process."""
    import torch

    low = arguments.dtype == "bfloat16"
    frozen_low = low and arguments.method == "lora" and arguments.side != "TRL autocast"
    model, tokenizer = make_model(arguments.model, torch.bfloat16 if frozen_low else torch.float32, arguments.device)
    rows = make_rows(arguments, tokenizer, model.config.get_text_config().vocab_size)
    model = adapt(model, arguments)
    if arguments.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    operations = operations_a_token(model, rows, arguments.method)
    run = run_whet if arguments.side == "whet" else run_trl
    ends, loss, norm = run(model, tokenizer, rows, arguments)
    size, warm = _batch_size(arguments), WARM_UP[arguments.device]
    tokens = sum(map(len, rows[warm * size : len(ends) * size]))
    cuda = arguments.device == "cuda"
    peak = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Measured(tokens / (ends[-1] - ends[warm - 1]), peak, loss, norm, operations)


def make_model(name: str, dtype: Any, device: str) -> tuple[Any, Any]:
    """The model and its tokenizer; for a shape, random weights that are the same on both sides, and a stand-in."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if name not in SHAPES:
        from whet.models.load import load

        loaded = load(name, dtype, device)
        return loaded.model.train(), loaded.tokenizer
    config = AutoConfig.for_model(**SHAPES[name], pad_token_id=0, bos_token_id=1, eos_token_id=2, use_cache=False)
    with torch.device(device):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return model.to(dtype).train(), stand_in_tokenizer()


def operations_a_token(model: Any, rows: list[Any], method: str) -> float:
    """Multiplications and additions that a step needs a token: 6 N (Kaplan et al. 2020, arXiv 2001.08361, section 2.1),
    4 N where frozen weights need no gradient; and attention, over half of a row on average."""
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    mean_length = sum(map(len, rows)) / len(rows)
    attention = 12 * config.num_hidden_layers * width * mean_length / 2
    return (6 if method == "full" else 4) * sum(p.numel() for p in model.parameters()) + attention


def adapt(model: Any, arguments: argparse.Namespace) -> Any:
    """The model with what is to be trained in it, the same on both sides down to LoRA's random numbers."""
    import torch

    from whet.methods import METHODS, Given
    from whet.recipe import FullPart, LoRAPart

    torch.manual_seed(0)
    part = LoRAPart(r=R, lora_alpha=ALPHA) if arguments.method == "lora" else FullPart()
    model = METHODS[arguments.method].apply(model, part, Given())
    if arguments.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def stand_in_tokenizer() -> Any:
    """SFTTrainer wants one; the rows are tokens already."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<s>": 1, "</s>": 2}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def _batch_size(arguments: argparse.Namespace) -> int:
    return arguments.batch_size or (12 if arguments.rows == "prefix" else 8)


def make_rows(arguments: argparse.Namespace, tokenizer: Any, vocabulary: int) -> list[Any]:
    """`steps` batches of rows. ragged: 40 to 120 tokens, the second half learnt. prefix: each batch shares 200 tokens,
    30 to 70 more are learnt. Else a file's rows, as `whet train` reads and renders them."""
    from whet.rows import Row

    size, scale = _batch_size(arguments), arguments.scale
    if arguments.rows not in ("ragged", "prefix"):
        return _rows_of_file(arguments, tokenizer, size * arguments.steps)
    draw = np.random.default_rng(0)
    ids = lambda length: draw.integers(3, vocabulary, length, dtype=np.int32)  # noqa: E731
    rows = []
    for _ in range(arguments.steps):
        prefix = ids(200 * scale)
        for _ in range(size):
            length = int(draw.integers(40 * scale, 120 * scale + 1))
            prompt = ids(length // 2) if arguments.rows == "ragged" else prefix
            answer = ids(length - length // 2 if arguments.rows == "ragged" else int(draw.integers(30, 71)) * scale)
            rows.append(Row(np.concatenate([prompt, answer]), np.arange(len(prompt) + len(answer)) >= len(prompt)))
    return rows


def _rows_of_file(arguments: argparse.Namespace, tokenizer: Any, count: int) -> list[Any]:
    from whet.data import read
    from whet.objectives import sft
    from whet.recipe import DataPart, SFTPart
    from whet.tokens.template import Renderer

    examples = read([DataPart(path=arguments.rows)], "sft", 0)
    rows = [row for some in sft.rows_of(examples, Renderer(tokenizer), SFTPart()) for row in some if row.target_count]
    return (rows * -(-count // len(rows)))[:count]


Ran = tuple[list[float], float, float]
"""The time each step ended at; loss and gradient norm of the first."""


# The two sides -------------------------------------------------------------------------------------------------------


def run_whet(model: Any, tokenizer: Any, rows: list[Any], arguments: argparse.Namespace) -> Ran:
    """whet's engine, driven as `whet train` drives it."""
    import torch
    from accelerate import Accelerator

    from whet.models.language_model import LanguageModel
    from whet.models.probe import probe
    from whet.recipe import SFTPart, TrainPart
    from whet.train.engine import Engine

    path = probe(model, model.config.get_text_config().vocab_size).path
    part = TrainPart(gradient_checkpointing=arguments.checkpointing)
    accelerator = Accelerator(cpu=arguments.device == "cpu")
    engine = Engine(LanguageModel(model, path), SFTPart(), part, accelerator, getattr(torch, arguments.dtype))
    engine.language_model.train()
    ends, losses, norms = [], [], []
    size = _batch_size(arguments)
    for start in range(0, len(rows), size):
        losses.append(engine.forward_backward(rows[start : start + size]).loss)
        norms.append(engine.optim_step(LEARNING_RATE))
        ends.append(_now(arguments.device))
    return ends, losses[0], norms[0]


def run_trl(model: Any, tokenizer: Any, rows: list[Any], arguments: argparse.Namespace) -> Ran:
    """TRL's SFTTrainer, with its rows in their order."""
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class InOrder(SFTTrainer):
        def _get_train_sampler(self, *given: Any) -> SequentialSampler:
            return SequentialSampler(self.train_dataset)

    class Clock(TrainerCallback):
        ends: list[float] = []  # noqa: RUF012  one trainer a process

        def on_step_end(self, *given: Any, **more: Any) -> None:
            self.ends.append(_now(arguments.device))

    columns = {
        "input_ids": [row.ids.tolist() for row in rows],
        "completion_mask": [row.targets.astype(int).tolist() for row in rows],
    }
    dataset = Dataset.from_dict(columns)
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder, per_device_train_batch_size=_batch_size(arguments), max_steps=arguments.steps,
            learning_rate=LEARNING_RATE, lr_scheduler_type="constant", weight_decay=0.0, max_grad_norm=1.0,
            bf16=arguments.side == "TRL autocast", max_length=None, completion_only_loss=True,
            gradient_checkpointing=arguments.checkpointing, padding_free=arguments.padding_free,
            use_liger_kernel=arguments.liger, use_cpu=arguments.device == "cpu",
            dataloader_pin_memory=arguments.device == "cuda",
            logging_first_step=True, logging_steps=10_000, save_strategy="no", report_to="none", disable_tqdm=True,
        )  # fmt: skip
        trainer = InOrder(model, args=config, train_dataset=dataset, processing_class=tokenizer, callbacks=[Clock])
        trainer.train()
    first = trainer.state.log_history[0]
    return Clock.ends, first["loss"], first["grad_norm"]


def _now(device: str) -> float:
    """Seconds, when all that was asked of the device is done."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


# What comes out ------------------------------------------------------------------------------------------------------


def summarise(rounds: dict[str, list[Measured]], arguments: argparse.Namespace) -> dict[str, Any]:
    """Medians of each side, and whet against the fastest TRL."""
    sides: dict[str, dict[str, Any]] = {
        side: {
            "tokens_per_second": statistics.median(m.tokens_per_second for m in each),
            "by_round": [round(m.tokens_per_second, 1) for m in each],
            "peak_bytes": statistics.median(m.peak_bytes for m in each),
            "loss": each[0].loss,
            "gradient_norm": each[0].gradient_norm,
        }
        for side, each in rounds.items()
    }
    ours = sides["whet"]
    theirs_name = max((side for side in sides if side != "whet"), key=lambda side: sides[side]["tokens_per_second"])
    theirs = sides[theirs_name]
    setting = {key: value for key, value in vars(arguments).items() if key not in ("side", "json")}
    setting["batch_size"] = _batch_size(arguments)
    rate = matrix_rate(arguments)
    for name, side in sides.items():
        side["share_of_matrix_rate"] = side["tokens_per_second"] * rounds[name][0].operations_a_token / rate
    return {
        "setting": setting | {"processor": _processor(arguments.device), "versions": _versions()},
        "sides": sides,
        "against": theirs_name,
        "speed_ratio": ours["tokens_per_second"] / theirs["tokens_per_second"],
        "memory_ratio": ours["peak_bytes"] / theirs["peak_bytes"],
        "loss_difference": abs(ours["loss"] - theirs["loss"]),
        "same_loss": abs(ours["loss"] - theirs["loss"]) <= (1e-4 if arguments.dtype == "float32" else 5e-3),
        "matrix_rate": rate,
    }


def matrix_rate(arguments: argparse.Namespace) -> float:
    """Operations a second of one large product in the precision of the run, best of five."""
    import torch

    size = 8192 if arguments.device == "cuda" else 2048
    a = torch.randn(size, size, device=arguments.device, dtype=getattr(torch, arguments.dtype))
    seconds = []
    for _ in range(6):
        began = _now(arguments.device)
        a @ a
        seconds.append(_now(arguments.device) - began)
    return 2 * size**3 / min(seconds[1:])


def _processor(device: str) -> str:
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name()
    information = Path("/proc/cpuinfo")  # Linux; elsewhere Python knows the name
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")] or [platform.processor()]
    return f"{names[0]}, {torch.get_num_threads()} threads"


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("whet", "torch", "transformers", "peft", "trl")}


def show(result: dict[str, Any]) -> None:
    """A table of the sides, then the ratios."""
    from rich.console import Console
    from rich.table import Table

    setting = result["setting"]
    title = ", ".join(str(setting[key]) for key in ("model", "method", "dtype", "rows"))
    table = Table("", "tokens/s", "peak memory", "matrix rate", "first loss", "its gradient", title=title)
    for name, side in result["sides"].items():
        table.add_row(
            name, f"{side['tokens_per_second']:,.0f}", f"{side['peak_bytes'] / 1e9:.2f} GB",
            f"{side['share_of_matrix_rate']:.0%}", f"{side['loss']:.5f}", f"{side['gradient_norm']:.5f}",
        )  # fmt: skip
    console = Console()
    console.print(table)
    console.print(f"{setting['processor']}; a large product there: {result['matrix_rate'] / 1e9:,.0f} GFLOP/s")
    same = "same loss" if result["same_loss"] else "NOT THE SAME LOSS"
    console.print(f"{same}: the difference is {result['loss_difference']:.2g}")
    console.print(
        f"whet / {result['against']}: {result['speed_ratio']:.2f} times the tokens a second, "
        f"{result['memory_ratio']:.2f} of the peak memory"
    )


if __name__ == "__main__":
    main()
