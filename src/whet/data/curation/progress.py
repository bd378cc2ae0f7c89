"""A bar a step: rows done of rows there are. Quiet where it should be, or where nobody looks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


class Progress:
    """A context manager around rich's bars; with `quiet`, or without a terminal, it does nothing."""

    def __init__(self, quiet: bool) -> None:
        self.bars: Any = None
        self.task: Any = None
        self.done = 0
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bars

            self.bars = Bars(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                TimeRemainingColumn(), console=Console(stderr=True), transient=True,
            )  # fmt: skip

    def __enter__(self) -> Progress:
        if self.bars:
            self.bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if self.bars:
            self.bars.stop()

    def reading(self) -> Callable[[int], None]:
        """A bar without an end; call what comes back with the rows read so far."""
        self.step("reading", None)
        return lambda rows: self.bars.update(self.task, completed=rows) if self.bars else None

    def step(self, name: str, total: int | None) -> None:
        """The next step; a bar of `total` rows, or one without an end."""
        if self.bars:
            if self.task is not None:
                self.bars.remove_task(self.task)
            self.task, self.done = self.bars.add_task(name, total=total), 0

    def advance(self) -> None:
        """One row more."""
        self.done += 1
        if self.bars and self.done % 256 == 0:
            self.bars.update(self.task, completed=self.done)
