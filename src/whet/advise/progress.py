"""What advice shows while it works: a bar of trials on a terminal, plain lines in a log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

Say = Callable[[str], None]
Done = Callable[[int, int], None]


@contextmanager
def watching(quiet: bool = False) -> Iterator[tuple[Say, Done]]:
    """(say a line, tell how many trials of how many are done), on the error stream: results go to the other one."""
    console = Console(stderr=True, quiet=quiet, highlight=False)
    columns = [TextColumn("pilot"), BarColumn(bar_width=None), MofNCompleteColumn(), TimeRemainingColumn()]
    bar = Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal)
    task = bar.add_task("", total=None, visible=False)

    def say(text: str) -> None:
        console.print(Text(text), soft_wrap=True)

    def done(trials: int, of: int) -> None:
        bar.update(task, completed=trials, total=of, visible=True)
        if bar.disable and (trials == of or trials % max(1, of // 5) == 0):
            say(f"pilot: {trials} of {of} trials")

    with bar:
        yield say, done
