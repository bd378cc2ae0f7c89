"""A bar a step: rows done of rows there are; and signals, which stop the work at its next row at the latest."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


class Progress:
    """A context manager around rich's bars; with `quiet`, or without a terminal, it does nothing."""

    def __init__(self, quiet: bool) -> None:
        self.bars: Any = None
        self.task: Any = None
        self.before: dict[int, Any] = {}
        self.stopped: int | None = None
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
        if threading.current_thread() is threading.main_thread():
            heard = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
            self.before = {number: signal.signal(number, self._hear) for number in heard}
        if self.bars:
            self.bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if self.bars:
            self.bars.stop()
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: Any) -> None:
        """Stop where we are; and where a library swallows that, at the next row."""
        self.stopped = number
        raise KeyboardInterrupt(number)

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

    def each(self, items: Iterable[T]) -> Iterator[T]:
        """The items, one step of the bar each."""
        for item in items:
            yield item
            self.advance()

    def advance(self) -> None:
        """One row more. Raises KeyboardInterrupt where a signal came since the last."""
        if self.stopped is not None:
            raise KeyboardInterrupt(self.stopped)
        self.done += 1
        if self.bars and self.done % 256 == 0:
            self.bars.update(self.task, completed=self.done)
