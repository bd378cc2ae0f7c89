"""`whet.export`: a run's result in the formats that others load.

Written to a folder beside the wanted one, compared there by the gate, and renamed when every check held.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from whet.errors import RunError, StorageError
from whet.methods import METHODS
from whet.models.export import hf, llama_cpp
from whet.models.export.gate import Check, Gate, look
from whet.models.export.merge import merge as merge_adapter
from whet.models.export.source import DType, GGUFType, Source, Target, Work, check_wish, source_of
from whet.models.load import quietly
from whet.models.saved import open_run


@dataclass(frozen=True)
class Exported:
    """`folder` holds the files; `next` is the command, or the Python, that loads them; `checks` is what was compared;
    `notes` is what should be told though it is no fault."""

    folder: Path
    next: str
    checks: list[Check]
    notes: list[str]


def export(
    run: Path | str,
    to: Target = "hf",
    out: Path | str | None = None,
    *,
    merge: bool = True,
    dtype: DType | None = None,
    gguf_type: GGUFType | None = None,
) -> Exported:
    """Write a run's result, or any model, for others to load, and compare it with the run before it is left behind.

    `out` is a new folder; None: `export-<to>` in the run, or `<model>-<to>` here for what is no run. `dtype` is that of
    the weights of hf and vllm; None or auto: as in the files of the model, or of the base that the adapter lies on.
    `merge` False leaves the adapter beside its base (vllm). `gguf_type` is that of matrices in gguf and ollama, f16
    where None.

    Raises RunError where the export would not answer as the run, naming the first difference, and for a target that the
    run's method cannot take; ModelError for a model that llama.cpp is not known to read; TemplateError for a chat
    template that Ollama cannot have; StorageError where it cannot be written. Nothing is left behind then.
    """
    source = source_of(run)
    check_wish(source, to, merge, dtype, gguf_type)
    if to in ("gguf", "ollama"):
        llama_cpp.check_source(source)
    folder = _new_folder(source, to, out)
    with quietly(), _whole(folder) as temporary:
        opened = open_run(run, dtype=torch.float32, whole=True)
        reference = look(opened.model, opened.tokenizer)
        gate = Gate(source.name)
        work = Work(source, temporary, gate, reference, opened.model, opened.tokenizer, list(opened.notes))
        if source.part.quantize:
            work.notes.append(f"trained on an {source.part.quantize} base; what is exported stands on the whole one")
        del opened
        _write(work, to, merge, dtype or "auto", gguf_type or "f16")
    return Exported(folder, _next(source, to, merge, folder, reference.vocabulary), gate.checks, work.notes)


def _write(work: Work, to: Target, merge: bool, dtype: DType, gguf_type: GGUFType) -> None:
    if to == "peft" or not merge:
        hf.write_adapter(work)
        return
    if work.source.adapter is not None:
        work.model = merge_adapter(work.model, METHODS[work.source.kind], work.gate)
    if to == "gguf":
        llama_cpp.write_gguf(work, gguf_type)
    elif to == "ollama":
        llama_cpp.write_ollama(work, gguf_type)
    else:
        hf.write_model(work, dtype)


def _next(source: Source, to: Target, merge: bool, folder: Path, embeddings: int) -> str:
    """What to run now. `embeddings` are the run's rows of them."""
    if to == "hf":
        return f"whet chat {folder}"
    if to == "peft":
        return hf.load_adapter_code(source, folder, embeddings)
    if to == "vllm":
        return f"vllm serve {folder}" if merge else hf.serve_adapter_command(source, folder)
    return llama_cpp.next_command(to, source, folder)


def _new_folder(source: Source, to: Target, out: Path | str | None) -> Path:
    """The folder's path, free to be made. Raises RunError where it holds something."""
    if out is not None:
        folder = Path(out).expanduser()
    elif source.run:
        folder = Path(source.name).expanduser() / f"export-{to}"
    else:
        folder = Path(f"{source.title}-{to}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError("it is not empty", where=f"--out {folder}", do="name another folder, or remove it")
    return folder


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes `target` when the block ends well, and is removed when it does not."""
    temporary = target.with_name(f".{target.name}.writing")
    made: Any = None
    try:
        made = _first_missing(target.parent)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        if target.exists():
            target.rmdir()
        os.replace(temporary, target)
    except BaseException as error:
        shutil.rmtree(made or temporary, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, StorageError):
            raise StorageError(
                f"cannot write: {error}", where=str(target), do="free space, or name another folder with --out"
            ) from error
        raise


def _first_missing(folder: Path) -> Path | None:
    """The uppermost folder on this path that is not there yet: what a failure must take away again."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    return missing[-1] if missing else None
