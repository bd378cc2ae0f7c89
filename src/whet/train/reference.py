"""The reference: what the model says of the rows before it learns. Preference losses measure from there.

It is computed once, before the first step, and kept on disk under a key of the model, the rows and the precision; a
resumed run, and another run with the same model and rows, reads it.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from whet.recipe import FullPart, MethodPart
from whet.rows import Row, given, with_companions
from whet.train.checkpoint import rows_fingerprint
from whet.train.engine import Engine

UNLIKE = ("_name_or_path", "transformers_version", "use_cache", "architectures")
"""Of a config: what may differ where the model is the same."""
KEPT = 32
"""References on disk; the one that was not read for longest goes first."""


def with_reference(
    engine: Engine,
    rows: Sequence[Row],
    model: str,
    method: MethodPart,
    progress: Callable[[int], None] = lambda rows: None,
) -> list[Row]:
    """The rows and their companions with "reference", log p of each target by the model as it was before training.
    `model` is its fingerprint. The engine must not have taken a step where the method is full."""
    flat, _ = with_companions(rows)
    path = folder() / f"{key(engine, flat, model)}.safetensors"
    found = _read(path, flat)
    if found is None:
        full = isinstance(method, FullPart)
        with nullcontext() if full else engine.method.base(engine.language_model.model):
            found = [logps.numpy() for logps in engine.scores(flat, progress)]
        _keep(path, found)
    numbers = iter(found)
    return [
        replace(
            given(row, reference=next(numbers)),
            companions=tuple(given(companion, reference=next(numbers)) for companion in row.companions),
        )
        for row in rows
    ]


def frozen(engine: Engine, method: MethodPart) -> Callable[[Sequence[Row]], list[torch.Tensor]]:
    """What gives rows' log-probabilities by the model as it is now, whatever is learnt later: with the method off, or
    by a copy where the method changes the model itself."""
    language_model = engine.language_model
    if not isinstance(method, FullPart):

        def off(rows: Sequence[Row]) -> list[torch.Tensor]:
            with engine.method.base(language_model.model):
                return engine.scores(rows)

        return off
    copied = copy.deepcopy(language_model).requires_grad_(False)

    def beside(rows: Sequence[Row]) -> list[torch.Tensor]:
        engine.language_model = copied
        copied.scaling = language_model.scaling
        try:
            return engine.scores(rows)
        finally:
            engine.language_model = language_model

    return beside


def folder() -> Path:
    """Where references are kept: `$XDG_CACHE_HOME/whet/reference`, `~/.cache/whet/reference` where that is not set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "whet" / "reference"


def key(engine: Engine, flat: Sequence[Row], model: str) -> str:
    """Of weights, config (positions, caps), rows and precision; weights of rows change nothing, but count as other
    rows."""
    language_model = engine.language_model
    config = {name: value for name, value in language_model.config.to_dict().items() if name not in UNLIKE}
    told = f"{model} {json.dumps(config, sort_keys=True, default=str)} {rows_fingerprint(flat)} "
    told += f"{engine.compute_dtype} {language_model.path}"
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _read(path: Path, flat: Sequence[Row]) -> list[np.ndarray] | None:
    try:
        numbers = load_file(path)["reference"]
        os.utime(path)
    except (OSError, SafetensorError, KeyError):
        return None
    ends = np.cumsum([row.target_count for row in flat])
    return np.split(numbers, ends[:-1]) if len(ends) and len(numbers) == ends[-1] else None


def _keep(path: Path, found: Sequence[np.ndarray]) -> None:
    """To disk, whole or not at all. What cannot be kept is computed again the next time."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"reference": np.concatenate(found)}, temporary)
        temporary.replace(path)
        known = sorted(path.parent.glob("*.safetensors"), key=lambda each: each.stat().st_mtime)
        for old in known[:-KEPT]:
            old.unlink(missing_ok=True)
    except (OSError, SafetensorError):
        with suppress(OSError):
            temporary.unlink()
