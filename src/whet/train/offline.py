"""The offline loop: rows that are there before training starts (SFT, rewards, preferences).

    for each step: rows -> forward_backward -> optim_step -> a line of metrics
                   now and then: evaluate, keep the best, write a checkpoint

It is one function to read; what it calls is one storey down, in `engine`, `checkpoint` and `schedule`.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from whet.errors import Interrupted, RunError, TrainingError
from whet.rows import Row
from whet.train.checkpoint import forget_old, save_checkpoint
from whet.train.engine import Engine, Step
from whet.train.schedule import Schedule

LOWER = "lower train.learning_rate"
AS_IT_WAS = "the last checkpoint is as it was"


@dataclass
class Position:
    """Where a run is; written with every checkpoint, so that a resumed run goes on as if nothing had happened."""

    fingerprint: dict[str, str]
    """Of what the run began with: model, rows, settings."""
    step: int = 0
    seconds: float = 0.0
    rows: int = 0
    tokens: int = 0
    computed_tokens: int = 0
    target_tokens: int = 0
    smooth_loss: float | None = None
    lowest_smooth_loss: float | None = None
    evaluations: list[tuple[int, float]] = field(default_factory=list)
    online: dict[str, Any] = field(default_factory=dict)
    """What the online loop must know: see `whet.train.trouble`."""

    @classmethod
    def of(cls, tree: dict[str, Any], where: Path) -> Position:
        """A checkpoint's. Raises RunError where a value is missing, unknown, or of another kind."""
        try:
            position = cls(**tree)
            whole = tree.keys() == asdict(position).keys() and isinstance(position.step, int) and position.step > 0
            position.evaluations = [(int(step), float(loss)) for step, loss in position.evaluations]
        except (TypeError, ValueError):
            whole = False
        if not whole:
            raise RunError(
                "position.json is not what whet wrote", where=str(where), do="delete it; the one before is taken"
            )
        return position

    @property
    def best(self) -> tuple[int, float] | None:
        """(step, loss) of the best evaluation after training began."""
        trained = [(step, loss) for step, loss in self.evaluations if step > 0]
        return min(trained, key=lambda pair: pair[1]) if trained else None

    def add(self, seen: Step, seconds: float) -> None:
        self.step += 1
        self.seconds += seconds
        self.rows += seen.rows
        self.tokens += seen.tokens
        self.computed_tokens += seen.computed_tokens
        self.target_tokens += seen.target_tokens


def offline(
    engine: Engine,
    rows: Sequence[Row],
    schedule: Schedule,
    position: Position,
    folder: Path,
    tell: Callable[[dict[str, Any]], None],
    evaluate: Callable[[], dict[str, float]] | None,
) -> str | None:
    """Train from `position` to the end of `schedule`. Returns why it stopped early, or None.

    `tell` gets a line of metrics.jsonl an event; `evaluate` gives held-out figures with a "loss".
    Raises TrainingError (loss not a number, or exploding) and Interrupted (SIGINT, SIGTERM; after a checkpoint).
    """
    rank, ranks = engine.accelerator.process_index, engine.accelerator.num_processes
    engine.language_model.train()
    with signals() as asked:
        while position.step < schedule.total_steps:
            began = time.perf_counter()
            chosen = [rows[i] for i in schedule.rows_of(position.step)]
            rate = schedule.learning_rate(position.step)
            seen = engine.forward_backward(chosen[rank::ranks])
            check_number(seen.loss, "loss", position.step, chosen)
            norm = engine.optim_step(rate)
            check_number(norm, "gradient norm", position.step, chosen)
            seconds = time.perf_counter() - began
            position.add(seen, seconds)
            _check_explosion(seen.loss, position)
            tell(step_event(seen, position, schedule, rate, norm, seconds))
            if stop := end_step(engine, position, schedule, folder, tell, evaluate, asked):
                return stop
    return None


def end_step(
    engine: Engine,
    position: Position,
    schedule: Schedule,
    folder: Path,
    tell: Callable[[dict[str, Any]], None],
    evaluate: Callable[[], dict[str, float]] | None,
    asked: list[int],
    stop: str | None = None,
) -> str | None:
    """What follows an update: evaluation and checkpoint where they are due, or where the run ends for the reason
    `stop`. Returns why it should stop, or None; raises Interrupted where that was `asked` for."""
    last = position.step == schedule.total_steps
    if evaluate is not None and (last or stop or position.step % schedule.evaluate_every == 0):
        stop = _evaluate(engine, position, schedule, folder, tell, evaluate) or stop
    if last or stop or asked or position.step % schedule.part.checkpoint_every == 0:
        _check_weights(engine, position.step)
        save_checkpoint(folder, f"step-{position.step}", engine.state(), asdict(position))
        forget_old(folder, schedule.part.keep_checkpoints, position.best[0] if position.best else None)
    if asked:
        raise Interrupted(
            asked[0],
            f"stopped at step {position.step} of {schedule.total_steps}; a checkpoint is written",
            do=f"go on with: whet train --resume {folder}",
        )
    return stop


def _evaluate(
    engine: Engine,
    position: Position,
    schedule: Schedule,
    folder: Path,
    tell: Callable[[dict[str, Any]], None],
    evaluate: Callable[[], dict[str, float]],
) -> str | None:
    """Evaluate, keep the weights if they are the best so far; a reason to stop early, or None."""
    figures = evaluate()
    if not math.isfinite(figures["loss"]):
        raise TrainingError(
            f"the held-out loss is {figures['loss']} after step {position.step}", do=f"{LOWER}; {AS_IT_WAS}"
        )
    position.evaluations.append((position.step, figures["loss"]))
    tell({"step": position.step, "epoch": schedule.epoch_of(position.step), "evaluation": figures})
    best = position.best
    if best is not None and best[0] == position.step and schedule.part.load_best:
        weights = {name: tensor for name, tensor in engine.state().items() if name.startswith("parameter.")}
        save_checkpoint(folder, f"best-{position.step}", weights, asdict(position))
    patience = schedule.part.early_stopping_patience
    if patience and best and sum(step > best[0] for step, _ in position.evaluations) >= patience:
        return f"no better evaluation in {patience} (early_stopping_patience)"
    return None


def step_event(
    seen: Step, position: Position, schedule: Schedule, rate: float, norm: float, seconds: float
) -> dict[str, Any]:
    """A line of metrics.jsonl."""
    return {
        "step": position.step,
        "epoch": round(schedule.epoch_of(position.step), 4),
        "loss": seen.loss,
        "learning_rate": rate,
        "grad_norm": norm,
        "rows": seen.rows,
        "tokens": seen.tokens,
        "computed_tokens": seen.computed_tokens,
        "target_tokens": seen.target_tokens,
        **{name: round(value, 6) for name, value in seen.metrics.items()},
        "tokens_per_second": round(seen.tokens / seconds, 1),
        "seconds": round(position.seconds, 3),
    }


def check_number(value: float, name: str, step: int, rows: Sequence[Row]) -> None:
    if math.isfinite(value):
        return
    places = ", ".join(row.place for row in rows[:4]) + (", ..." if len(rows) > 4 else "")
    raise TrainingError(
        f"the {name} is {value} at step {step + 1}; rows of the step: {places}",
        do=f"no update was made with it; {LOWER}, or look at the rows with `whet preflight`; {AS_IT_WAS}",
    )


def _check_weights(engine: Engine, step: int) -> None:
    """The last update before a checkpoint is seen by no loss; a checkpoint of numbers that are none helps nobody."""
    for name, parameter in engine.trainable.items():
        if not parameter.isfinite().all():
            raise TrainingError(f"{name} is no longer finite after step {step}", do=f"{LOWER}; {AS_IT_WAS}")


def _check_explosion(loss: float, position: Position) -> None:
    """Stop when the loss, smoothed over about 20 steps, is three times its lowest value and a nat more."""
    smooth = loss if position.smooth_loss is None else 0.95 * position.smooth_loss + 0.05 * loss
    lowest = smooth if position.lowest_smooth_loss is None else min(smooth, position.lowest_smooth_loss)
    position.smooth_loss, position.lowest_smooth_loss = smooth, lowest
    if smooth > 3 * lowest + 1.0:
        raise TrainingError(
            f"the loss explodes: {smooth:.3g} (smoothed) at step {position.step}, its lowest was {lowest:.3g}",
            do="lower train.learning_rate (a third is a good next try), or raise train.warmup_steps",
        )


@contextmanager
def signals() -> Iterator[list[int]]:
    """A list that the first SIGINT or SIGTERM is put into; a second one acts at once, as it did before."""
    asked: list[int] = []
    before: dict[int, Any] = {}

    def put(number: int, frame: Any) -> None:
        asked.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    try:
        for number in (int(signal.SIGINT), int(signal.SIGTERM)):
            before[number] = signal.signal(number, put)
    except ValueError:  # not the main thread: signals go elsewhere
        pass
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
