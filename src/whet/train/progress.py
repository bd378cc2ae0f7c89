"""What a run shows while it works: a live bar on a terminal, a few plain lines in a log, and the final screen.

The loop tells events, in the shape of metrics.jsonl's lines; how they look is decided here. Text that comes from data
or a model is never read as markup, and its control characters are not sent to the terminal.
"""

from __future__ import annotations

import io
import logging
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.padding import Padding
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from whet.look.units import MISSING, count, duration, figure, scientific, size
from whet.train.runs import told, verdict, words

QUIET_SECONDS = 30.0
"""In a log, a line comes at every tenth of the run, or after so many seconds without one."""
SCREEN_SAMPLES = 3
SAMPLE_LINES = 12
PROMPT_LINES = 3


class SmoothedLoss:
    """Exponential moving average of the loss, corrected for its start as in Adam (Kingma & Ba 2015, section 3)."""

    def __init__(self, decay: float = 0.95):
        self.decay, self.total, self.weight = decay, 0.0, 0.0

    def update(self, loss: float) -> float:
        """The average with one more loss in it; the first call gives the loss itself."""
        self.total = self.decay * self.total + (1 - self.decay) * loss
        self.weight = self.decay * self.weight + (1 - self.decay)
        return self.total / self.weight


class Progress:
    """Shows a run. Use as a context manager, so that the terminal is itself again whatever happens.

    `start`, then `step` and `evaluation` with lines of metrics.jsonl as they are written, `note` for warnings in
    between, and `summary` once at the end.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic):
        self.console = console or Console(highlight=False)
        self._clock = clock
        self._smoothed = SmoothedLoss()
        self._total = self._first = self._shown_tenth = 0
        self._started = self._shown_at = 0.0
        self._best: float | None = None
        self._bar: Bar | None = None
        self._task = TaskID(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def start(self, total_steps: int, done: int = 0) -> None:
        """Training begins: optimiser steps in all, and how many a resumed run has behind it."""
        self._total, self._first = total_steps, done
        self._started = self._shown_at = self._clock()
        self._shown_tenth = self._tenth(done)
        if self.console.is_terminal:
            columns = [
                TextColumn("train"),
                BarColumn(bar_width=None, complete_style="cyan"),
                MofNCompleteColumn(),
                TextColumn("{task.fields[figures]}"),
            ]
            self._bar = Bar(*columns, console=self.console, transient=True, expand=True)
            self._task = self._bar.add_task("", total=total_steps, completed=done, figures="")
            self._bar.start()

    def step(self, event: dict[str, Any]) -> None:
        """One optimiser step: a training line of metrics.jsonl."""
        step, smoothed = event["step"], self._smoothed.update(event["loss"])
        figures = [
            f"loss {event['loss']:.3f}",
            f"smoothed {smoothed:.3f}",
            f"lr {scientific(event['learning_rate'])}",
            f"{event['tokens_per_second']:,.0f} tokens/s",
            f"{duration(self._left(step))} left",
        ]
        if self._bar:
            # On a narrow terminal the bar keeps the two figures that people watch.
            kept = figures if self.console.width >= 110 else [figures[1], figures[4]]
            self._bar.update(self._task, completed=step, figures="  ".join(kept))
        elif self._is_due(step):
            self._say(Text(f"step {step}/{self._total}  " + "  ".join(figures)))

    def evaluation(self, event: dict[str, Any]) -> None:
        """One evaluation: an evaluation line of metrics.jsonl; step 0 is before training."""
        values, step = event["evaluation"], event["step"]
        first, *others = told(values)
        line = Text(f"step {step}  held-out {words(first)} {figure(values[first])}", style="bold")
        for name in others:
            line.append(f"  {words(name)} {figure(values[name])}", style="dim not bold")
        if self._best is None or values["loss"] < self._best:
            line.append("  best so far" if step and self._best is not None else "", style="green not bold")
            self._best = values["loss"]
        self._say(line)

    def metrics(self, event: dict[str, Any]) -> None:
        """One evaluation of what the recipe's `evaluate` asks for: a line of metrics.jsonl."""
        told = ", ".join(f"{name} {figure(value)}" for name, value in event["metrics"].items())
        self._say(Text(f"step {event['step']}  ", style="bold").append(plain(told), style="not bold"))

    def note(self, text: str) -> None:
        """A warning of one line, above the bar."""
        self._say(Text("! ", style="yellow").append(plain(" ".join(text.split())), style="default"))

    def summary(self, summary: dict[str, Any], folder: Path) -> None:
        """The final screen, from summary.json. Its last line says where the report lies."""
        self._close()
        title = verdict(summary, summary.get("validation_rows"))
        self.console.print()
        self.console.print(Text(title[0].upper() + title[1:], style="bold"))
        if reason := summary.get("stopped_because"):
            self.console.print(Text(f"{summary['status']}: {plain(str(reason))}", style="yellow"))
        self.console.print(Padding(_figures(summary), (1, 0)))
        for sample in summary.get("samples", [])[:SCREEN_SAMPLES]:
            self.console.print(_sample(sample, self.console.width))
        if result := summary.get("result"):
            self._say(Text(f"{result}: {folder / result}"))
        self._say(Text(f"report: {folder / 'report.html'}"))

    def _close(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None

    def _say(self, line: Text) -> None:
        self.console.print(line, soft_wrap=True)

    def _tenth(self, step: int) -> int:
        return 10 * step // max(self._total, 1)

    def _is_due(self, step: int) -> bool:
        """Whether a log gets a line for this step: the first, the last, one at each tenth, or after a long silence."""
        now, tenth = self._clock(), self._tenth(step)
        due = step == self._first + 1 or step >= self._total or tenth > self._shown_tenth
        if due or now - self._shown_at >= QUIET_SECONDS:
            self._shown_at, self._shown_tenth = now, tenth
            return True
        return False

    def _left(self, step: int) -> float:
        """Seconds to the end at the pace so far, evaluations and checkpoints included."""
        return (self._clock() - self._started) / max(step - self._first, 1) * (self._total - step)


class Silent(Progress):
    """Shows nothing, for use from Python; notes go to the logger `whet` at level INFO."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO(), quiet=True))

    def note(self, text: str) -> None:
        """A warning, for those who listen to the logger."""
        logging.getLogger("whet").info(text)


def plain(text: str) -> str:
    """Text without control characters but newlines, so that no data can command the terminal; tabs become blanks."""
    text = text.replace("\r\n", "\n").replace("\t", "    ")
    return "".join(char for char in text if char == "\n" or unicodedata.category(char) not in ("Cc", "Cf", "Cs"))


def clip(text: str, lines: int, width: int, *, keep_end: bool = False) -> str:
    """At most so many lines, wrapped at words to `width` columns; `…` stands where text was left out, at the start or
    the end."""
    measure = Console(file=io.StringIO(), width=width)
    wrapped = [line.plain.rstrip() for line in Text(text.strip()).wrap(measure, width)]
    if len(wrapped) > lines:
        wrapped = ["…", *wrapped[-lines:]] if keep_end else [*wrapped[:lines], "…"]
    return "\n".join(wrapped)


def _figures(summary: dict[str, Any]) -> Table:
    """The figures under the verdict: two columns, no lines."""
    before, after = summary.get("before") or {}, summary.get("after") or {}
    model = summary.get("model", {})
    steps = f"{count(summary.get('steps'))} ({summary.get('epochs') or 0:g} epochs)"
    if best := summary.get("best_step"):
        steps += f", best at {best}"
    rows = [
        ("tokens a second", count(summary.get("tokens_per_second"))),
        ("peak memory", size(summary.get("peak_memory_bytes"))),
        ("time", duration(summary.get("seconds"))),
        ("steps", steps),
        ("trained", f"{count(model.get('trainable_parameters'))} of {count(model.get('parameters'))} parameters"),
    ]
    if before and after:
        rows[:0] = [
            (words(name), f"{figure(before.get(name))} -> {figure(after.get(name))}") for name in told(after)[1:]
        ]
    found = summary.get("evaluation") or {}
    measured = []
    for one in found.get("differences", []):
        sides = [figure(found[when][one["name"]]["value"]) for when in ("before", "after")]
        measured.append((one["name"].replace("_", " "), f"{sides[0]} -> {sides[1]}  {one['verdict']}"))
    rows[:0] = measured
    table = Table.grid(padding=(0, 3))
    for name, value in rows:
        table.add_row(Text(name, style="dim"), Text(value))
    return table


def _sample(sample: dict[str, Any], width: int) -> Panel:
    """A prompt with its answers before and after, side by side. The end of the prompt is what the answer is to."""
    inside = width - 4  # less the panel's border and padding
    answers = Table(box=None, expand=True, padding=(0, 2, 0, 0), show_edge=False)
    answers.add_column("before", ratio=1, header_style="dim", style="dim")
    answers.add_column("after", ratio=1, header_style="bold green")
    texts = [plain(sample.get(key) or MISSING) for key in ("before", "after")]
    answers.add_row(*(Text(clip(text, SAMPLE_LINES, inside // 2 - 2)) for text in texts))
    prompt = Text(clip(plain(sample.get("prompt") or ""), PROMPT_LINES, inside, keep_end=True), style="italic")
    return Panel(Group(prompt, Text(), answers), border_style="dim")
