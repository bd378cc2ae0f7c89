"""Where rows come from: a path as the user wrote it -> tables of raw rows, one a file."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from whet.data.formats import READERS, Record, format_of, records, without_nulls
from whet.errors import MissingExtra, RecipeError, RowError, did_you_mean

QUICKSTART = "quickstart"
"""Names the rows in the package, where no file or folder is called so."""

ACCOUNTS = (".rejects.jsonl", ".ledger.json")
"""What curation writes beside its rows, and no reader of a folder takes for rows."""

_ABOUT_THE_DATA = {"readme", "license", "licence", "notice", "changelog", "source"}


def path_and_count(path: str) -> tuple[str, int | None]:
    """`path#500` -> path and 500; a path without a count, or a file that is really called so, -> itself and None."""
    match = re.fullmatch(r"(.+)#(\d+)", path)
    if not match or _exists(Path(path).expanduser()):
        return path, None
    count = int(match[2])
    if count == 0:
        raise RecipeError("`#0` samples no rows", where=path)
    return match[1], count


def tables(path: str, split: str) -> list[tuple[str, list[Record]]]:
    """The rows of `path` (a file, a folder or `hub:NAME`), file by file, each file under its label.

    `split` is a hub dataset's. Raises RowError for what cannot be read, MissingExtra without `datasets`.
    """
    if path.startswith("hub:"):
        return [(path, _hub(path, split))]
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", path)
    if scheme:
        raise RowError(
            f"{scheme[0]} is not read yet", where=path, do="copy the file here, or give hub:NAME for a hub dataset"
        )
    try:
        files = files_of(path)
    except OSError as error:
        raise RowError(f"cannot be read: {error.strerror}", where=path) from error
    return [(label, records(file, label)) for label, file in files]


def files_of(path: str) -> list[tuple[str, Path]]:
    """The files that a path stands for, with their labels: itself, or what a folder holds, in order of name."""
    root = Path(path).expanduser()
    if not _exists(root):
        if path == QUICKSTART:
            return [(path, Path(str(resources.files("whet.data") / "quickstart" / "rows.jsonl")))]
        raise _missing(path, root)
    if not root.is_dir():
        return [(path, root)]
    inside = sorted(
        file for file in root.rglob("*")
        if file.is_file() and not _hidden(file.relative_to(root)) and not file.name.endswith(ACCOUNTS)
    )  # fmt: skip
    known = [file for file in inside if format_of(file) in READERS]
    # Beside tables, a .txt is a note about them; a folder of .txt alone is a corpus, but for its licence and the like.
    found = [file for file in known if format_of(file) != ".txt"] or [
        file for file in known if file.name.lower().split(".")[0] not in _ABOUT_THE_DATA
    ]
    if not found:
        raise RowError("no data in this folder", where=path, do=f"whet reads {' '.join(READERS)}")
    return [(f"{path.rstrip('/')}/{file.relative_to(root).as_posix()}", file) for file in found]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a folder that may not be entered, a name that is too long
        return False


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "__")) for part in path.parts)


def _missing(path: str, file: Path) -> RowError:
    if re.fullmatch(r"[\w.-]+/[\w.-]+", path) and not file.suffix:
        return RowError("no such file or folder", where=path, do=f"for a dataset on the hub, write hub:{path}")
    if not file.parent.is_dir():
        return RowError(f"no such file: there is no folder {file.parent}", where=path)
    beside = sorted(other.name for other in file.parent.iterdir())
    return RowError(f"no such file.{did_you_mean(file.name, beside)}", where=path, do="check the path")


def _hub(path: str, split: str) -> list[Record]:
    """`hub:NAME` or `hub:NAME:CONFIGURATION`, read by `datasets`; NAME may be a local folder of data files as well."""
    try:
        import datasets
    except ImportError:
        raise MissingExtra("datasets", "hub", f"reading {path}") from None
    name, _, configuration = path.removeprefix("hub:").partition(":")
    try:
        rows = datasets.load_dataset(name, configuration or None, split=split).to_list()
    except Exception as error:  # what a loader, a network or a remote file may raise has no common parent
        first = str(error).strip().split("\n")[0]
        raise RowError(
            f"`datasets` cannot read it: {first or type(error).__name__}",
            where=path,
            do=f"check the name, data.split={split} and the network; a configuration follows a colon: hub:NAME:main",
        ) from error
    if not rows:
        raise RowError(f"no rows in split {split}", where=path)
    return [(f"{path}:row {number}", without_nulls(row)) for number, row in enumerate(rows, 1)]
