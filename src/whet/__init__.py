"""whet: adapt a language model to your domain.

    import whet
    run = whet.train("Qwen/Qwen3-0.6B", "chats.jsonl", method=whet.LoRA(r=16), output="runs/a")
    print(run.summary["before"], run.summary["after"])

Everything here is imported when it is first used, so that `import whet` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whet.models.export.formats import export
    from whet.models.load import load
    from whet.models.saved import open_run
    from whet.recipe import FullPart as Full
    from whet.recipe import LoRAPart as LoRA
    from whet.train.run import Run, resume, train

__all__ = ["Full", "LoRA", "Run", "export", "load", "open_run", "resume", "train"]

_PLACES = {
    "export": ("whet.models.export.formats", "export"),
    "load": ("whet.models.load", "load"),
    "open_run": ("whet.models.saved", "open_run"),
    "train": ("whet.train.run", "train"),
    "resume": ("whet.train.run", "resume"),
    "Run": ("whet.train.run", "Run"),
    "LoRA": ("whet.recipe", "LoRAPart"),
    "Full": ("whet.recipe", "FullPart"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'whet' has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
