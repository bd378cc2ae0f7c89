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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from whet.errors import RunError, StorageError
from whet.recipe import Recipe
from whet.rows import Row, with_companions


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
            f"cannot write: {error}", where=str(target), do="free space there, then go on with `whet train --resume`"
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
    found = (path.parent.name.removeprefix("step-") for path in (folder / "checkpoints").glob("step-*/position.json"))
    return sorted(int(name) for name in found if name.isdigit())


def forget_old(folder: Path, keep: int, best: int | None) -> None:
    """Delete all but the newest `keep` checkpoints of steps, and all best ones but that of step `best`.

    Called after a checkpoint is written and not before: the best that an older checkpoint speaks of stays until then.
    """
    for step in steps_saved(folder)[:-keep]:
        shutil.rmtree(folder / "checkpoints" / f"step-{step}", ignore_errors=True)
    for path in (folder / "checkpoints").glob("best-*"):
        if path.name != f"best-{best}":
            shutil.rmtree(path, ignore_errors=True)


def load_checkpoint(
    folder: Path, name: str, fingerprint: dict[str, str]
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """(tensors, position) of a checkpoint.

    Raises RunError where it is broken, or where the run had another base model, other rows or other settings than
    `fingerprint` tells: what came out would be no run that could be done again.
    """
    path = folder / "checkpoints" / name
    try:
        position = json.loads((path / "position.json").read_text(encoding="utf-8"))
        tensors = load_file(path / "tensors.safetensors")
        began = position["fingerprint"]
        changed = [what for what, digest in fingerprint.items() if began[what] != digest]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        do = (
            "delete it; the one before is taken" if name.startswith("step-") else "start a new run with another output="
        )
        raise RunError(f"the checkpoint cannot be read: {error!r}", where=str(path), do=do) from None
    if changed:
        told = {
            "model": "the checkpoint is of another model than the recipe names (its weights differ)",
            "rows": "the rows are not those that the run began with",
            "settings": "method, objective or train in recipe.yaml are not those that the run began with",
        }
        raise RunError(
            told[changed[0]],
            where=str(path),
            do="put back what the run began with, or start a new run with another output=",
        )
    return tensors, position


def rows_fingerprint(rows: Sequence[Row]) -> str:
    """Sixteen hexadecimal digits of the rows in their order, companions with them: tokens, targets, weights, roles."""
    digest = hashlib.sha256()
    for row in with_companions(rows)[0]:
        digest.update(f"{len(row)} {row.weight!r} {row.role}".encode())
        digest.update(row.ids.tobytes())
        digest.update(row.targets.tobytes())
    return digest.hexdigest()[:16]


def settings_fingerprint(recipe: Recipe) -> str:
    """Sixteen hexadecimal digits of the settings that decide which weights come out."""
    harmless = {"checkpoint_every", "keep_checkpoints"}
    parts = [recipe.method.model_dump_json(), recipe.objective.model_dump_json()]
    parts += [
        recipe.train.model_dump_json(exclude=harmless),
        recipe.model.model_dump_json(include={"quantize", "dtype"}),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def model_fingerprint(model: Any) -> str:
    """Sixteen hexadecimal digits of the base model: each parameter's name, shape, first values, and the sum of all."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        values = parameter.detach().flatten()
        digest.update(f"{name} {tuple(parameter.shape)} {values.double().sum().item()!r}".encode())
        digest.update(values[:16].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
