"""What whet raises: every error says where, what was found, and what to do next.

Each class is also a standard one, so that callers who know nothing of whet catch what they expect. The command line
prints the message alone and exits with 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class WhetError(Exception):
    """The parent of all. `where` is a `file:line` or a recipe's path, `do` the next step for the user."""

    exit_code = 2

    def __init__(self, what: str, *, where: str | None = None, do: str | None = None):
        self.what, self.where, self.do = what, where, do
        super().__init__(self.__str__())

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n  -> {self.do}" if self.do else head


class RecipeError(WhetError, ValueError):
    """A setting that is unknown, of the wrong kind or out of range."""


class RowError(WhetError, ValueError):
    """Data that cannot be read, or a row that is not of a shape whet knows."""


class TemplateError(WhetError, ValueError):
    """A chat template that is broken, refuses a row, or cannot tell what is to be learnt."""


class PreflightError(WhetError, ValueError):
    """The ledger of rows shows more loss than the recipe allows."""


class ModelError(WhetError, ValueError):
    """A model folder that is missing parts, unsafe to load, or does not fit its tokenizer."""


class RunError(WhetError, RuntimeError):
    """A run folder that is taken, missing, or does not fit what is asked of it."""


class TrainingError(WhetError, ArithmeticError):
    """Training that went wrong: a loss that is not a number or explodes."""


class Interrupted(WhetError):
    """A run that a signal asked to stop, after writing a checkpoint. Exit code 128 + signal, as shells have it."""

    def __init__(self, signal: int, what: str, *, do: str):
        self.exit_code = 128 + signal
        super().__init__(what, do=do)


class StorageError(WhetError, OSError):
    """A disk that is full or a folder that cannot be written."""


class MissingExtra(WhetError, ImportError):
    """An optional dependency that is not installed."""

    def __init__(self, package: str, extra: str, purpose: str):
        super().__init__(f"{purpose} needs the package {package!r}", do=f"pip install 'whet[{extra}]'")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the nearest of `known`, or nothing where none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""
