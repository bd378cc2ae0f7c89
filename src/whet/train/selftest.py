"""Self-test: the promises of the engine, checked on the user's own model and machine.

Each check computes the same thing twice, the fast way and a plain one, and reports the largest relative difference.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from whet.methods import Given, lora, on_peft
from whet.models.language_model import LanguageModel
from whet.models.load import load
from whet.models.probe import probe
from whet.recipe import LoRAPart, ModelPart, SFTPart, TrainPart
from whet.rows import Row
from whet.train.engine import Engine

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Check:
    """One promise: `difference` is the largest found, relative to the largest value compared."""

    name: str
    how: str
    difference: float
    tolerance: float

    @property
    def holds(self) -> bool:
        return self.difference <= self.tolerance


def selftest(part: ModelPart, tolerance: float = 1e-5) -> Iterator[Check]:
    """Run every check in float32, yielding each as it is done. `tolerance` is for those that reorder sums; resuming
    and saving must be exact: on one thread, because BLAS may take fewer threads for a product when the machine is busy,
    and sums of other parts end with other last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield from _checks(part, tolerance)
    finally:
        torch.set_num_threads(threads)


def _checks(part: ModelPart, tolerance: float) -> Iterator[Check]:
    loaded = load(part.model_copy(update={"dtype": "float32"}), torch.float32)
    torch.manual_seed(0)
    path = probe(loaded.model, len(loaded.tokenizer)).path
    rows = _rows(len(loaded.tokenizer))
    reference = _plain(loaded.model, rows)
    model = lora.apply(loaded.model, LoRAPart(r=4), Given())
    _unlike_zero(model)
    plain = _plain(model, rows)

    def engine(pack_tokens: int = 4096, share: bool = True) -> Engine:
        part = TrainPart(pack_tokens=pack_tokens, share_prefixes=share, learning_rate=1e-3)
        return Engine(LanguageModel(model, path), SFTPart(), part, Accelerator(cpu=True), torch.float32)

    scores = dict(enumerate(engine(share=False).scores(rows)))
    expected = dict(enumerate(_scores(model, rows)))
    yield Check("packed = separate rows", f"log-probabilities, {path} path", _apart(scores, expected), tolerance)
    flat, shared = _gradients(engine(share=False), rows), _gradients(engine(), rows)
    yield Check("shared = flat", "loss and gradients, prefixes stored once", _apart(shared, flat), tolerance)
    yield Check("chunked head = plain", "loss and gradients, all logits at once", _apart(flat, plain), tolerance)
    small = _gradients(engine(64), rows)
    yield Check("accumulated = whole", "loss and gradients, packs of 64 tokens", _apart(small, shared), tolerance)
    yield Check("resumed = uninterrupted", "weights after 2 + 2 steps", _resumed(engine, rows), 0.0)
    yield Check("saved = in memory", "logits, loaded again by peft", _saved(model, part, rows), 0.0)
    with model.disable_adapter():
        base = _plain(model, rows)
    yield Check("adapter off = base", "loss", abs(float(base["loss"] - reference["loss"])), 0.0)


def _rows(vocabulary: int) -> list[Row]:
    """Ragged rows, most of which share prefixes of two depths; the completions are targets."""
    draw = np.random.default_rng(0)

    def ids(size: int) -> np.ndarray:
        return draw.integers(0, vocabulary, size, dtype=np.int32)

    stem, branch = ids(40), ids(24)
    rows = []
    for number in range(8):
        prompt = [stem, branch][: 2 - number % 2] if number < 6 else [ids(30)]
        body = np.concatenate([*prompt, ids(8 + 5 * number)])
        targets = np.zeros(len(body), bool)
        targets[sum(len(part) for part in prompt) :] = True
        rows.append(Row(body, targets))
    return rows


def _unlike_zero(model: Any) -> None:
    """A fresh LoRA changes nothing (B = 0) and would test little."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)


def _scores(model: Any, rows: list[Row]) -> list[torch.Tensor]:
    """Log-probabilities of targets by the model's own forward, a row at a time."""
    out = []
    for row in rows:
        ids = torch.from_numpy(row.ids.astype(np.int64))[None]
        logps = model(input_ids=ids, use_cache=False).logits[0, :-1].float().log_softmax(1)
        out.append(logps.gather(1, ids[0, 1:, None])[:, 0][torch.from_numpy(row.targets[1:])])
    return out


def _plain(model: Any, rows: list[Row]) -> Tensors:
    """Loss and gradients with nothing of whet: one row at a time, all logits, one mean over all targets."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    loss = -torch.cat(_scores(model, rows)).mean()
    if "lora_" in "".join(parameters):
        loss.backward()
    return _taken(loss.detach(), parameters)


def _gradients(engine: Engine, rows: list[Row]) -> Tensors:
    seen = engine.forward_backward(rows)
    return _taken(torch.tensor(seen.loss), engine.trainable)


def _taken(loss: torch.Tensor, parameters: dict[str, Any]) -> Tensors:
    """The loss and the gradients by name; the model's own are cleared."""
    out = {"loss": loss.double()}
    for name, parameter in parameters.items():
        if parameter.grad is not None:
            out[name] = parameter.grad.detach().clone()
            parameter.grad = None
    return out


def _apart(a: Any, b: Any) -> float:
    """Largest |a - b| relative to the largest |b|: of the loss, and of all other tensors together."""
    if a.keys() != b.keys():
        return float("inf")
    worst = 0.0
    for names in (b.keys() & {"loss"}, b.keys() - {"loss"}):
        scale = max((float(b[name].detach().abs().max()) for name in names), default=1.0)
        gap = max((float((a[name].detach() - b[name].detach()).abs().max()) for name in names), default=0.0)
        worst = max(worst, gap / scale) if gap == gap else float("inf")
    return worst


def _resumed(engine: Callable[[], Engine], rows: list[Row]) -> float:
    def steps(which: Engine, count: int) -> None:
        for _ in range(count):
            which.forward_backward(rows)
            which.optim_step(1e-3)

    first = engine()
    start = first.state()
    steps(first, 2)
    halfway = first.state()
    steps(first, 2)
    whole = first.state()
    second = engine()
    second.load_state(halfway)
    steps(second, 2)
    difference = _apart({k: v.double() for k, v in second.state().items()}, {k: v.double() for k, v in whole.items()})
    engine().load_state(start)
    return difference


def _saved(model: Any, part: ModelPart, rows: list[Row]) -> float:
    from peft import PeftModel

    model.eval()
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        on_peft.save(model, Path(folder))
        base = load(part.model_copy(update={"dtype": "float32"}), torch.float32).model
        again = PeftModel.from_pretrained(base, folder).eval()
        return _apart(dict(enumerate(_scores(again, rows))), dict(enumerate(_scores(model, rows))))
