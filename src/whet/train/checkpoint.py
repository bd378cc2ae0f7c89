"""Checkpoints: written beside the last good one and renamed, so that a kill at any moment loses nothing.

    checkpoints/step-200/tensors.safetensors    trained parameters, optimiser, random state
    checkpoints/step-200/position.json          where the run was
    checkpoints/best-160/                       the same, of the best evaluation (trained parameters only)

No pickle anywhere: a checkpoint from elsewhere cannot run code.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from whet.errors import RunError, StorageError


def save_checkpoint(folder: Path, name: str, tensors: dict[str, torch.Tensor], position: dict[str, Any]) -> Path:
    """Write `folder/checkpoints/name`, whole or not at all.

    Raises StorageError where the disk is full or not writable; what was there before stays.
    """
    target = folder / "checkpoints" / name
    with whole_folder(target) as temporary:
        save_file(tensors, temporary / "tensors.safetensors")
        (temporary / "position.json").write_text(json.dumps(position, indent=1), encoding="utf-8")
    return target


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes `target` when the block ends well, replacing what was there."""
    temporary = target.with_name(f".{target.name}.writing")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        for path in temporary.rglob("*"):
            if path.is_file():
                _flush(path)
        shutil.rmtree(target, ignore_errors=True)  # only a finished run's result is ever there already
        os.replace(temporary, target)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise StorageError(
            f"cannot write: {error}", where=str(target), do="free space, then go on with `whet train --resume RUN`"
        ) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _flush(path: Path) -> None:
    """Down to the disk, so that the rename never outlives the contents."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def steps_saved(folder: Path) -> list[int]:
    """Steps of which a whole checkpoint is there, ascending."""
    found = (folder / "checkpoints").glob("step-*/position.json")
    return sorted(int(path.parent.name.removeprefix("step-")) for path in found)


def forget_old(folder: Path, keep: int, best: int | None) -> None:
    """Delete all but the newest `keep` checkpoints of steps, and all best ones but that of step `best`.

    Called after a checkpoint is written and not before: the best that an older checkpoint speaks of stays until then.
    """
    for step in steps_saved(folder)[:-keep]:
        shutil.rmtree(folder / "checkpoints" / f"step-{step}", ignore_errors=True)
    for path in (folder / "checkpoints").glob("best-*"):
        if path.name != f"best-{best}":
            shutil.rmtree(path, ignore_errors=True)


def load_checkpoint(folder: Path, name: str, fingerprint: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """(tensors, position) of a checkpoint.

    Raises RunError where it is broken or of another base model than `fingerprint` tells.
    """
    path = folder / "checkpoints" / name
    try:
        position = json.loads((path / "position.json").read_text(encoding="utf-8"))
        tensors = load_file(path / "tensors.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise RunError(
            f"the checkpoint cannot be read: {error}", where=str(path), do="delete it; the one before is taken"
        ) from None
    if position.get("fingerprint") != fingerprint:
        raise RunError(
            "the checkpoint is of another model than the recipe names (its weights differ)",
            where=str(path),
            do="name the model that the run began with, or start a new run with another output=",
        )
    return tensors, position


def model_fingerprint(model: Any) -> str:
    """Sixteen hexadecimal digits of the base model: each parameter's name, shape and first values."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        digest.update(f"{name} {tuple(parameter.shape)}".encode())
        digest.update(parameter.detach().flatten()[:16].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
