"""A stage -> a file: .jsonl (or .jsonl.gz), .parquet or .csv, by its ending, here or on remote storage.

Files are written beside their place and renamed when whole. `{name}` in a path makes a file for each value of that
column.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import orjson
import pyarrow as pa

from whet.errors import RowError, StorageError, did_you_mean

ENDINGS = (".jsonl", ".jsonl.gz", ".parquet", ".csv")
CHUNK = 10_000

Line = tuple[int, str, str]
"""index, place, row as JSON"""


def check_output(path: str, overwrite: bool) -> None:
    """Raises RowError for a path of no known ending or a file that is there, StorageError if it cannot be written."""
    name = path.rsplit("/", 1)[-1]
    if not name.lower().endswith(ENDINGS):
        ending = Path(name).suffix
        raise RowError(
            f"whet does not write {ending or 'files without an ending'}.{did_you_mean(ending, ENDINGS)}",
            where=path, do=f"end it in {', '.join(ENDINGS)}",
        )  # fmt: skip
    if is_remote(path):
        return
    if not overwrite and "{" not in path and Path(path).exists():
        raise RowError("there is a file already", where=path, do="name another one, or give --overwrite")
    folder = Path(path.split("{")[0] + "x").parent
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    import os

    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise StorageError(f"cannot write in {existing}", where=path, do="name a folder that can be written")


def is_remote(path: str) -> bool:
    """Whether a path is an address such as s3://bucket/rows.jsonl."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path) is not None


def sidecar(path: str, kind: str) -> str:
    """The file beside an output: `out.parquet` -> `out.ledger.json`; fields in braces are left out of the name."""
    stem = re.sub(r"(\.jsonl\.gz|\.[A-Za-z]+)$", "", path)
    stem = re.sub(r"[-_.]?\{\w+\}", "", stem)
    return f"{stem or 'rows'}.{kind}" if not stem.endswith("/") else f"{stem}rows.{kind}"


def write(lines: Iterable[Line], path: str, folder: Path) -> list[tuple[Path, str, int]]:
    """Write rows into `folder`; (file, the path it is meant for, rows) for each. `publish` moves them."""
    if "{" not in path:
        file = folder / path.rsplit("/", 1)[-1]
        return [(file, path, _write_one(lines, file))]
    column = re.search(r"\{(\w+)\}", path)
    if column is None:
        raise RowError("braces hold the name of a column", where=path, do="e.g. 'rows-{split}.jsonl'")
    parts = _parted(lines, column[1], folder, path)
    done: list[tuple[Path, str, int]] = []
    for value, part in parts.items():
        target = path.replace(column[0], value)
        file = folder / f"out-{len(done)}-{target.rsplit('/', 1)[-1]}"
        with part.open("rb") as raw:
            count = _write_one(((0, "", line.decode()) for line in raw), file)
        done.append((file, target, count))
    return done


def _parted(lines: Iterable[Line], column: str, folder: Path, path: str) -> dict[str, Path]:
    """The rows in a file of lines a value of the column."""
    open_files: dict[str, TextIO] = {}
    try:
        for _, place, row in lines:
            value = orjson.loads(row).get(column)
            if not isinstance(value, (str, int)) or not re.fullmatch(r"\w[\w.-]*", str(value)):
                what = f"`{column}` is {value!r}, which names no file"
                raise RowError(what, where=place, do=f"as {path} asks for it")
            if str(value) not in open_files:
                if len(open_files) >= 256:
                    raise RowError(f"`{column}` has more than 256 values", where=path, do="name a column with few")
                open_files[str(value)] = (folder / f"part-{len(open_files)}").open("w", encoding="utf-8")
            open_files[str(value)].write(row + "\n")
    finally:
        for file in open_files.values():
            file.close()
    return {value: Path(file.name) for value, file in sorted(open_files.items())}


def publish(files: Iterable[tuple[Path, str, int]]) -> None:
    """Move finished files to their places, the last one last."""
    for file, path, _ in files:
        try:
            if is_remote(path):
                _upload(file, path)
            else:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                shutil.move(file, path)
        except (OSError, ValueError) as error:
            raise StorageError(f"cannot be written: {error}", where=path) from error


def _upload(file: Path, path: str) -> None:
    from pyarrow import fs

    system, target = fs.FileSystem.from_uri(path)
    with file.open("rb") as source, system.open_output_stream(target) as sink:
        shutil.copyfileobj(source, sink, 8 << 20)


def content_of(file: Path) -> str:
    """BLAKE2b of a file's bytes."""
    with file.open("rb") as raw:
        return hashlib.file_digest(raw, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def joined_content(contents: list[str]) -> str:
    """One hash of several files' hashes, in order."""
    return hashlib.blake2b("".join(contents).encode(), digest_size=16).hexdigest()


def _write_one(lines: Iterable[Line], file: Path) -> int:
    if file.name.endswith(".parquet"):
        return _parquet(lines, file)
    if file.name.endswith(".csv"):
        return _csv(lines, file)
    count = 0
    with _text(file) as out:
        for _, _, row in lines:
            out.write(row.rstrip("\n") + "\n")
            count += 1
    return count


def _text(file: Path) -> Any:
    if file.name.endswith(".gz"):  # no time in the header: equal rows make equal files
        import io

        return io.TextIOWrapper(gzip.GzipFile(file, "wb", mtime=0), encoding="utf-8")
    return file.open("w", encoding="utf-8")


def _chunks(lines: Iterable[Line]) -> Iterator[list[dict[str, Any]]]:
    chunk: list[dict[str, Any]] = []
    size = 0
    for _, _, row in lines:
        chunk.append(orjson.loads(row))
        size += len(row)
        if len(chunk) >= CHUNK or size > 32 << 20:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _parquet(lines: Iterable[Line], file: Path) -> int:
    """Two passes over the rows: the columns and types of all, then the file. A column of mixed types is an error."""
    from pyarrow import parquet

    rough = file.with_suffix(".rough")
    schema, count = pa.schema([]), 0
    with rough.open("w", encoding="utf-8") as out:
        for chunk in _chunks(_copied(lines, out)):
            schema = pa.unify_schemas([schema, _inferred(chunk, file)], promote_options="permissive")
            count += len(chunk)
    empty = [field.name for field in schema if pa.types.is_struct(field.type) and field.type.num_fields == 0]
    schema = pa.schema([pa.field(f.name, pa.null()) if f.name in empty else f for f in schema])
    with rough.open(encoding="utf-8") as again, parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for chunk in _chunks((0, "", line) for line in again):
            writer.write_table(pa.Table.from_pylist(chunk, schema=schema))
    rough.unlink()
    return count


def _copied(lines: Iterable[Line], out: TextIO) -> Iterator[Line]:
    for line in lines:
        out.write(line[2].rstrip("\n") + "\n")
        yield line


def _inferred(chunk: list[dict[str, Any]], file: Path) -> pa.Schema:
    names = dict.fromkeys(name for row in chunk for name in row)
    fields = []
    for name in names:
        try:
            fields.append(pa.field(name, pa.array([row.get(name) for row in chunk]).type))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise RowError(
                f"column `{name}` has values of several kinds, which Parquet cannot hold: {error}",
                where=file.name, do="write .jsonl",
            ) from error  # fmt: skip
    return pa.schema(fields)


def _csv(lines: Iterable[Line], file: Path) -> int:
    """The columns of the first chunk, as a table of plain values."""
    count, names = 0, None
    with file.open("w", encoding="utf-8", newline="") as out:
        for chunk in _chunks(lines):
            if names is None:
                names = list(dict.fromkeys(name for row in chunk for name in row))
                writer = csv.DictWriter(out, names, lineterminator="\n")
                writer.writeheader()
            for row in chunk:
                other = next((name for name, value in row.items() if isinstance(value, (dict, list))), None)
                if other is not None or not row.keys() <= set(names):
                    new = sorted(row.keys() - set(names))
                    what = f"column `{other}` is nested" if other else f"columns differ: {new}"
                    raise RowError(f"{what}, which CSV cannot hold", where=file.name, do="write .jsonl or .parquet")
                writer.writerow(row)
                count += 1
    return count
