"""whet: adapt a language model to your domain.

    import whet
    run = whet.train("Qwen/Qwen3-0.6B", "chats.jsonl", method=whet.LoRA(r=16), output="runs/a")
    print(run.summary["before"], run.summary["after"])
    print(whet.evaluate("runs/a", "test.jsonl", ["perplexity", "rouge"]))

Everything here is imported when it is first used, so that `import whet` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whet.api import compare, evaluate, resume, train
    from whet.models.export.formats import export
    from whet.models.load import load
    from whet.models.saved import open_run
    from whet.models.several import load_adapters
    from whet.recipe import BottleneckPart as Bottleneck
    from whet.recipe import FullPart as Full
    from whet.recipe import JudgePart as Judge
    from whet.recipe import LoRAPart as LoRA
    from whet.train.merge import merge
    from whet.train.run import Run

__all__ = [
    "Bottleneck",
    "Full",
    "Judge",
    "LoRA",
    "Run",
    "compare",
    "evaluate",
    "export",
    "load",
    "load_adapters",
    "merge",
    "open_run",
    "resume",
    "train",
]

_PLACES: dict[str, tuple[str, str | None]] = {
    "export": ("whet.models.export.formats", "export"),
    "load": ("whet.models.load", "load"),
    "open_run": ("whet.models.saved", "open_run"),
    "load_adapters": ("whet.models.several", "load_adapters"),
    "train": ("whet.train", None),
    "resume": ("whet.api", "resume"),
    "evaluate": ("whet.evaluate", None),
    "compare": ("whet.api", "compare"),
    "merge": ("whet.train.merge", "merge"),
    "Run": ("whet.train.run", "Run"),
    "Bottleneck": ("whet.recipe", "BottleneckPart"),
    "LoRA": ("whet.recipe", "LoRAPart"),
    "Full": ("whet.recipe", "FullPart"),
    "Judge": ("whet.recipe", "JudgePart"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'whet' has no attribute {name!r}")
    module, attribute = _PLACES[name]
    # `whet.train` and `whet.evaluate` are rooms that can be called (see whet.entrance).
    return import_module(module) if attribute is None else getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
