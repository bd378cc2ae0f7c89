"""The weights of a model folder: which files hold them, and whether those are whole. Only safetensors are opened.

A pickle is a program, and `torch.load(weights_only=True)` has been got round twice; so none is opened here, nor by
transformers later, which is told `use_safetensors=True`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from whet.errors import ModelError

PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib"})
OTHER_FORMATS = frozenset({".h5", ".msgpack", ".gguf", ".onnx"})

_HEADER_LIMIT = 100_000_000  # bytes, safetensors' own
_GIT_LFS = b"version https://git-lfs"


def check_weights(folder: Path) -> list[str]:
    """Look a folder's weights through. Returns what should be told though it is no fault: pickles that lie beside.

    Raises ModelError for weights that are missing, in another format, cut short, or outside the folder.
    """
    names = weight_names(folder)
    if not names:
        raise no_weights(folder, "model.safetensors")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ModelError(
            f"{len(missing)} of {len(names)} files of weights are missing, {missing[0]} first",
            where=str(folder),
            do="fetch the rest; `hf download` goes on where a download stopped",
        )
    for name in names:
        check_inside(folder / name, folder)
        check_safetensors(folder / name)
    pickles = _of_kind(folder, PICKLES)
    return [f"{folder}: not opened, as pickles can run code: {', '.join(pickles)}"] if pickles else []


def weight_names(folder: Path) -> list[str]:
    """The files that hold a model's weights, relative to its folder, as transformers chooses them: model.safetensors,
    else the shards of its index, else none.

    Raises ModelError for an index that is broken or names anything but safetensors inside the folder.
    """
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").exists():
        return ["model.safetensors"]
    if not index.is_file():
        return []
    tree = read_json(index)
    places = tree.get("weight_map")
    if not isinstance(places, dict) or not isinstance(tree.get("metadata"), dict) or not places:
        raise ModelError("not an index of shards", where=str(index), do="the file is damaged; fetch it again")
    for name in places.values():
        inside = isinstance(name, str) and not Path(name).is_absolute() and ".." not in re.split(r"[/\\]", name)
        if not inside or not name.endswith(".safetensors"):
            raise ModelError(
                f"the index names {name!r} as a shard; shards are .safetensors files inside the folder",
                where=str(index),
                do="do not use this model: its index reaches for other files",
            )
    return sorted(set(places.values()))


def check_safetensors(path: Path) -> None:
    """Whether a file is whole and in the safetensors format: 8 bytes for the header's length, the header as JSON, then
    the tensors up to the last byte. Nothing in it can run.

    Raises ModelError that says how many bytes there are and should be.
    """
    from safetensors import SafetensorError, safe_open

    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            begin = file.read(64)
            length = int.from_bytes(begin[:8], "little")
            file.seek(8)
            header = json.loads(file.read(length)) if 2 <= length <= min(size - 8, _HEADER_LIMIT) else None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"not a safetensors file: {error}", where=str(path), do="fetch the file again") from None
    if begin.startswith(_GIT_LFS):
        raise ModelError(
            "a Git LFS pointer, not the weights themselves", where=str(path), do="run `git lfs pull` in the folder"
        )
    if not isinstance(header, dict):
        raise ModelError(
            f"not a safetensors file, or cut short inside its header ({size:,} bytes)",
            where=str(path),
            do="fetch the file again",
        )
    try:
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        whole = 8 + length + max(ends, default=0)
        if size != whole:
            raise ModelError(
                f"{size:,} bytes, and its header promises {whole:,}",
                where=str(path),
                do="the file is cut short or damaged; fetch it again",
            )
        with safe_open(path, framework="pt"):
            pass
    except (KeyError, TypeError, IndexError, SafetensorError) as error:
        raise ModelError(f"a broken safetensors file: {error}", where=str(path), do="fetch the file again") from None


def no_weights(folder: Path, wanted: str) -> ModelError:
    """The error for a folder without `wanted`, by what lies there instead."""
    pickles, others = _of_kind(folder, PICKLES), _of_kind(folder, OTHER_FORMATS)
    if pickles:
        return ModelError(
            f"no {wanted}, only a pickle ({pickles[0]}): opening a pickle can run any code",
            where=str(folder),
            do="convert it where it can do no harm (a container without network and secrets): from transformers import"
            " AutoModelForCausalLM as M; M.from_pretrained(FOLDER, use_safetensors=False).save_pretrained(NEW_FOLDER)",
        )
    if others:
        return ModelError(
            f"no {wanted}, only weights in another format ({others[0]})",
            where=str(folder),
            do="take the safetensors version of the model, or convert it with its own tools",
        )
    return ModelError(
        f"no weights: {wanted} is missing", where=str(folder), do="copy or download the weights into the folder"
    )


def check_inside(path: Path, folder: Path) -> None:
    """Links may lead about within a folder, and within the hub's cache where the folder is a snapshot in it.

    Raises ModelError for a link that leads elsewhere.
    """
    home = folder.resolve()
    if home.parent.name == "snapshots":
        home = home.parent.parent
    if not path.resolve().is_relative_to(home):
        raise ModelError(
            f"a link that leads out of the folder, to {path.resolve()}",
            where=str(path),
            do="put a copy of the file in its place",
        )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds keys and values. Raises ModelError with the line where it breaks off."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ModelError(
            f"not JSON: {error.msg}", where=f"{path}:{error.lineno}", do="the file is damaged; fetch it again"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"cannot be read: {error}", where=str(path), do="fetch the file again") from None
    if not isinstance(tree, dict):
        raise ModelError("should hold keys and values", where=str(path), do="the file is damaged; fetch it again")
    return tree


def _of_kind(folder: Path, suffixes: frozenset[str]) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix in suffixes)
