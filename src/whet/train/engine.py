"""The engine: four primitives that every loop is made of.

    forward_backward(rows)   gradients of the loss of these rows, added to what is there
    optim_step(rate)         clip, update, clear
    scores(rows)             log-probabilities of the targets, a tensor a row, no gradient
    state() / load_state()   what a resumed run needs to go on bit for bit

`rows` are those of one optimiser step, whatever they are cut into to fit memory: totals are divided by the count over
all packs and all ranks, so the gradient never depends on the cutting.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from whet.methods import METHODS
from whet.models.language_model import LanguageModel, by_row
from whet.objectives import OBJECTIVES, Batch
from whet.recipe import LoRAPart, MethodPart, ObjectivePart, TrainPart
from whet.rows import Row, with_companions
from whet.tokens.pack import Pack, pack_rows

NO_SETTINGS = LoRAPart()
"""Of a method that asks nothing of the optimiser."""

SMALLEST_PACK = 64
"""Tokens; below this, halving again frees nothing worth having."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one `forward_backward` saw. `loss` is the objective's, `metrics` are its own; `rows` are without companions,
    tokens with them."""

    loss: float
    rows: int
    tokens: int
    computed_tokens: int
    target_tokens: int
    metrics: dict[str, float] = field(default_factory=dict)


class Engine:
    """A model, its optimiser, and the memory they may use.

    `compute_dtype` is what products are computed in (autocast); trained parameters and their gradients stay float32.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        objective: ObjectivePart,
        part: TrainPart,
        accelerator: Accelerator,
        compute_dtype: torch.dtype,
        warn: Callable[[str], None] = lambda text: None,
        method: MethodPart = NO_SETTINGS,
    ):
        self.objective, self.part, self.accelerator, self.warn = objective, part, accelerator, warn
        self.compute_dtype = compute_dtype
        self.learning = OBJECTIVES[objective.kind]
        self.method = METHODS[method.kind]
        self.updates = 0
        if self.learning.reads == "values":
            language_model.add_value_head()
        self.trainable = {name: p for name, p in language_model.trained_parameters() if p.requires_grad}
        self.language_model = language_model
        layers = int(language_model.config.num_hidden_layers)
        rates = {name: self.method.rate(name, method, layers) for name in self.trainable}
        self.optimizer = accelerator.prepare(_adamw(self.trainable, part, rates))
        self.forward = accelerator.prepare(language_model)
        self.pack_tokens = pack_tokens(language_model, part)

    @property
    def device(self) -> torch.device:
        return self.language_model.device

    def packs(self, rows: Sequence[Row], together: Sequence[int] | None = None) -> list[Pack]:
        shares = self.language_model.shares
        share = self.part.share_prefixes and shares
        return pack_rows(rows, self.pack_tokens, share=share, padded=not shares, together=together)

    def forward_backward(self, rows: Sequence[Row]) -> Step:
        """Add the gradient of the objective's mean loss over `rows` (this rank's share of the step).

        If memory runs out, the packs are halved and the whole of it is repeated, with the same random numbers.
        """
        rows = self._before(list(rows))
        counts = self._global_counts(rows)
        while True:
            random = torch.get_rng_state()
            try:
                return self._over_packs(rows, counts)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not _out_of_memory(error) or self.pack_tokens // 2 < SMALLEST_PACK:
                    raise
            self.optimizer.zero_grad(set_to_none=True)
            torch.set_rng_state(random)
            self.pack_tokens //= 2
            self.warn(f"memory ran out: packs of {self.pack_tokens} tokens from here; the step is repeated whole")
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def measure(self, rows: Sequence[Row]) -> dict[str, float]:
        """The objective's loss and metrics on rows that are not learnt, as the model is now."""
        rows = self._before(list(rows))
        with torch.no_grad(), self._evaluating():
            seen = self._over_packs(rows, self._global_counts(rows), learn=False)
        return {"loss": seen.loss, **seen.metrics}

    def _over_packs(self, rows: Sequence[Row], counts: dict[str, float], learn: bool = True) -> Step:
        flat, owner = with_companions(rows)
        packs = self.packs(flat, owner)
        # Ranks average their gradients, so a total that is already divided by global counts is multiplied back.
        ranks = self.accelerator.num_processes
        total, targets, computed = 0.0, 0, 0
        metrics: dict[str, tuple[float, float]] = {}
        for number, pack in enumerate(packs):
            pack = pack.to(self.device)
            last = number == len(packs) - 1
            with self.language_model.running(self.compute_dtype), self._synchronised(last):
                loss = self.learning.loss(self._batch(pack, flat, owner, counts), self.objective)
                penalty = self.method.penalty(self.language_model.model) if last else None
                if learn:
                    self.accelerator.backward(loss.total * ranks + (0.0 if penalty is None else penalty))
            total += loss.total.item()
            targets += len(pack.target_ids_N)
            computed += pack.computed_tokens
            for name, (value, count) in loss.metrics.items():
                before = metrics.get(name, (0.0, 0.0))
                metrics[name] = (before[0] + value, before[1] + count)
        means = {name: value / count for name, (value, count) in metrics.items() if count}
        return Step(total, len(rows), sum(map(len, flat)), computed, targets, means)

    def _batch(self, pack: Pack, flat: Sequence[Row], owner: Sequence[int], counts: dict[str, float]) -> Batch:
        """What the loss sees of a pack."""
        out = self.forward(pack)
        logps_N, values_N = out if isinstance(out, tuple) else (out, None)
        rows = [flat[index] for index in pack.rows]
        numbers = {of: number for number, of in enumerate(dict.fromkeys(owner[index] for index in pack.rows))}
        examples = torch.tensor([numbers[owner[index]] for index in pack.rows], device=self.device)
        given = {
            name: torch.from_numpy(np.concatenate([row.given[name] for row in rows])).to(self.device)
            for name in rows[0].given
        }
        return Batch(
            logps_N,
            pack.target_row_N,
            pack.weights_R,
            tuple(row.role for row in rows),
            examples,
            counts,
            given,
            values_N,
        )

    def _before(self, rows: list[Row]) -> list[Row]:
        return self.learning.before(rows, self.scores, self.objective) if self.learning.before else rows

    def optim_step(self, learning_rate: float) -> float:
        """Clip to `max_grad_norm`, update at `learning_rate`, clear. Returns the gradient's norm before clipping.

        An update with a gradient that is not finite is left out: the caller decides what to do about it.
        """
        limit = self.part.max_grad_norm or math.inf
        norm = float(self.accelerator.clip_grad_norm_(list(self.trainable.values()), limit))
        self.updates += 1
        if math.isfinite(norm):
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate * group["rate"]
            self.optimizer.step()
            self.method.after_step(self.language_model.model, self.updates)
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def scores(self, rows: Sequence[Row], done: Callable[[int], None] = lambda rows: None) -> list[torch.Tensor]:
        """log p of each target of each row (companions are left out), in the rows' order, float32 on the CPU. Of a
        reward model, its rewards."""
        return [read[0] for read in self._read(rows, done)]

    def values(self, rows: Sequence[Row]) -> list[torch.Tensor]:
        """What the value head says before each target of each row, as `scores`."""
        return [read[1] for read in self._read(rows)]

    @torch.no_grad()
    def _read(self, rows: Sequence[Row], done: Callable[[int], None] = lambda rows: None) -> list[list[torch.Tensor]]:
        out: list[list[torch.Tensor]] = [[torch.empty(0)] * 2 for _ in rows]
        with self._evaluating():
            for pack in self.packs(rows):
                with self.language_model.running(self.compute_dtype):
                    found = self.language_model(pack.to(self.device))
                for place, numbers_N in enumerate(found if isinstance(found, tuple) else (found,)):
                    for index, numbers in zip(pack.rows, by_row(numbers_N.float().cpu(), [pack]), strict=True):
                        out[index][place] = numbers
                done(len(pack.rows))
        return out

    @contextmanager
    def at_temperature(self, temperature: float) -> Iterator[None]:
        """Within it log-probabilities are those that answers are drawn with."""
        before = self.language_model.scaling
        self.language_model.scaling = before.at(temperature)
        try:
            yield
        finally:
            self.language_model.scaling = before

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        training = self.language_model.training
        self.language_model.eval()
        try:
            yield
        finally:
            self.language_model.train(training)

    def state(self) -> dict[str, torch.Tensor]:
        """Trained parameters, the optimiser's moments and the random state, as flat tensors: a copy, on the CPU."""
        tensors = {f"parameter.{name}": p.detach() for name, p in self.trainable.items()}
        for name, p in self.trainable.items():
            for key, value in self.optimizer.state.get(p, {}).items():
                tensors[f"optimizer.{key}.{name}"] = torch.as_tensor(value)
        tensors |= {f"method.{name}": t for name, t in self.method.state(self.language_model.model).items()}
        tensors["updates"] = torch.tensor(self.updates)
        tensors["random.cpu"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["random.cuda"] = torch.cuda.get_rng_state()
        return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}

    @torch.no_grad()
    def load_state(self, tensors: dict[str, torch.Tensor]) -> None:
        """Put back what `state` gave. KeyError or RuntimeError where it is another model's."""
        for name, p in self.trainable.items():
            p.copy_(tensors[f"parameter.{name}"])
            state = {
                key.split(".")[1]: value.to(p.device, copy=True)  # the step too: a fused update wants it there
                for key, value in tensors.items()
                if key.startswith("optimizer.") and key.split(".", 2)[2] == name
            }
            self.optimizer.state.pop(p, None)
            if state:
                self.optimizer.state[p] = state
        begin = "method."
        own = {name.removeprefix(begin): t for name, t in tensors.items() if name.startswith(begin)}
        self.method.load_state(self.language_model.model, own)
        self.updates = int(tensors["updates"])
        torch.set_rng_state(tensors["random.cpu"])
        if torch.cuda.is_available() and "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"])

    def _global_counts(self, rows: Sequence[Row]) -> dict[str, float]:
        """The objective's, over all ranks. Rows that all weigh nothing have no loss and no gradient."""
        own = self.learning.counts(rows, self.objective)
        summed = self.accelerator.reduce(torch.tensor(list(own.values()), device=self.device), "sum").tolist()
        return {name: value or 1.0 for name, value in zip(own, summed, strict=True)}

    def _synchronised(self, last: bool) -> Any:
        return nullcontext() if last else self.accelerator.no_sync(self.forward)


def pack_tokens(language_model: LanguageModel, part: TrainPart) -> int:
    """The recipe's, or what should fit: on a GPU three quarters of the free memory; on CPU more gains nothing."""
    if part.pack_tokens != "auto":
        return part.pack_tokens
    device = language_model.device
    if device.type != "cuda":
        return 2048
    config = language_model.config
    width, layers = int(config.hidden_size), int(config.num_hidden_layers)
    inner = int(getattr(config, "intermediate_size", None) or 4 * width)
    # Saved for backward by one layer, in bfloat16 numbers a token: inputs of products, norms and activations.
    kept = 2 * width if part.gradient_checkpointing else 14 * width + 4 * inner
    free, _ = torch.cuda.mem_get_info(device)
    fits = int(free * 0.75 / (2 * layers * kept))
    return max(1024, min(65_536, 1 << (fits.bit_length() - 1)))


def _adamw(trainable: dict[str, torch.nn.Parameter], part: TrainPart, rates: dict[str, float]) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019), without decay for biases and norms, as transformers groups them. `rates`:
    each parameter's factor of the learning rate; one group for each factor."""
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, p in trainable.items():
        decays = p.ndim >= 2
        empty = {"params": [], "weight_decay": part.weight_decay if decays else 0.0, "rate": rates[name]}
        groups.setdefault((rates[name], decays), empty)["params"].append(p)
    return torch.optim.AdamW(
        list(groups.values()),
        lr=part.learning_rate,
        betas=(part.adam_beta1, part.adam_beta2),
        eps=part.adam_epsilon,
        fused=True,
    )


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
