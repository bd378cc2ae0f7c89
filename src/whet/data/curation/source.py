"""Files of any format -> a stage. A row that cannot be read is set aside with its reason, up to a share of all.

Paths are files, folders, globs, `hub:NAME`, or remote folders (s3://, gs://), several at once. A file is read up to
the size it has when it is opened; one that grows meanwhile is told of in the ledger, one that shrinks stops the run.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from glob import glob
from pathlib import Path
from typing import IO, Any

import orjson

from whet.data.curation.settings import Curation
from whet.data.curation.stage import Stage, StageWriter
from whet.data.formats import READERS, format_of, kind_of_value, parse_json
from whet.data.sources import ACCOUNTS, files_of, path_and_count, tables
from whet.errors import RowError

SHOWN = 10
"""So many of the broken rows are named in a message."""


@dataclass
class Reading:
    """What was read: files with their bytes and BLAKE2b, rows, rows that were broken, and what else there is to say."""

    files: list[dict[str, Any]] = field(default_factory=list)
    rows: int = 0
    broken: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def check(self, share: float) -> None:
        """Raises RowError where more than `share` of the rows are broken, or none was read."""
        total = self.rows + len(self.broken)
        first = "".join(f"\n   {place}: {reason}" for place, reason in self.broken[:SHOWN])
        if len(self.broken) > share * total:
            raise RowError(
                f"{len(self.broken):,} of {total:,} rows cannot be read, more than {share:.1%}:{first}",
                do="repair them, or set max_broken to the share that may be left out",
            )
        if not self.rows:
            raise RowError("no rows", where=", ".join(file["path"] for file in self.files) or None)


Reject = Callable[[str, str, Any], None]
"""reject(place, reason, what there was)"""


def read_rows(rows: Iterable[dict[str, Any]], folder: Path) -> tuple[Stage, Reading]:
    """A stage of rows that a program holds. Places are `row 1`, `row 2`, ..."""
    writer, content = StageWriter(folder), hashlib.blake2b(digest_size=16)
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise RowError(f"{kind_of_value(row)}, but a row is an object", where=f"row {number}")
        line = json_of(row, f"row {number}")
        content.update(line.encode() + b"\n")
        writer.add(f"row {number}", line)
    stage = writer.close()
    reading = Reading([{"path": "rows in memory", "blake2b": content.hexdigest()}], stage.count)
    reading.check(0)
    return stage, reading


def read_files(
    paths: Iterable[str], settings: Curation, folder: Path, reject: Reject, progress: Callable[[int], None]
) -> tuple[Stage, Reading]:
    """A stage of all rows of these paths, in order. `progress` gets the number of rows read so far."""
    reading, writer = Reading(), StageWriter(folder)
    for place, found in _records(paths, settings, reading):
        if isinstance(found, RowError):
            reading.broken.append((place, found.what))
            reject(place, found.what, str(found.__dict__.get("raw", "")))
            if len(reading.broken) > SHOWN and len(reading.broken) > settings.max_broken * max(writer.count, 100_000):
                break  # hopeless: a file of another kind
            continue
        writer.add(place, found)
        reading.rows += 1
        if reading.rows % 4096 == 0:
            progress(reading.rows)
    progress(reading.rows)
    reading.check(settings.max_broken)
    return writer.close(), reading


def json_of(row: dict[str, Any], place: str) -> str:
    """A row as JSON. Raises RowError for what JSON cannot hold."""
    try:
        return orjson.dumps(row, default=_plain).decode()
    except (TypeError, orjson.JSONEncodeError) as error:
        what = f"a value that JSON cannot hold: {error}"
        raise RowError(what, where=place, do="drop or convert the column") from None


def _plain(value: Any) -> Any:
    from decimal import Decimal

    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"a {type(value).__name__}")


def _records(paths: Iterable[str], settings: Curation, reading: Reading) -> Iterator[tuple[str, str | RowError]]:
    for path in paths:
        if path.startswith("hub:"):
            for label, rows in tables(path, "train"):
                reading.files.append({"path": label})
                yield from ((place, json_of(row, place)) for place, row in rows)
            continue
        if path_and_count(path)[1] is not None:
            raise RowError("`#` samples when a model is trained; here the step `sample` does", where=path)
        for label, file in _opened(path):
            yield from _file(label, file, settings, reading)


def _opened(path: str) -> Iterator[tuple[str, _Counted]]:
    """The files of a path, open for reading, one after another."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path):
        yield from _remote(path)
        return
    if any(mark in path for mark in "*?[") and not Path(path).exists():
        found = sorted(glob(path, recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
        if not found:
            raise RowError("no file matches", where=path, do="quote the pattern, and check the path")
    else:
        found = [path]
    for name in found:
        for label, file in files_of(name):
            try:
                size = file.stat().st_size
                if size == 0:
                    raise RowError("the file is empty", where=label)
                with file.open("rb") as raw:
                    yield label, _Counted(raw, size, label, partial(_size, file))
            except OSError as error:
                raise RowError(f"cannot be read: {error.strerror or error}", where=label) from error


def _remote(path: str) -> Iterator[tuple[str, _Counted]]:
    from fnmatch import fnmatch

    from pyarrow import fs

    try:
        system, root = fs.FileSystem.from_uri(path.split("*")[0].rsplit("/", 1)[0] if "*" in path else path)
        scheme = path.split("://")[0]
        info = system.get_file_info(root)
        if info.type == fs.FileType.File:
            found = [info]
        else:
            inside = system.get_file_info(fs.FileSelector(root, recursive=True))
            pattern = path.split("://", 1)[1]
            found = sorted(
                (i for i in inside if i.type == fs.FileType.File and format_of(Path(i.base_name)) in READERS
                 and not i.path.endswith(ACCOUNTS) and ("*" not in path or fnmatch(i.path, pattern))),
                key=lambda i: i.path,
            )  # fmt: skip
        if not found:
            raise RowError("no data there", where=path, do=f"whet reads {' '.join(READERS)}")
        for info in found:
            label = f"{scheme}://{info.path}"
            with system.open_input_file(info.path) as raw:
                yield label, _Counted(raw, info.size, label, partial(int, info.size))
    except (OSError, ValueError) as error:
        if isinstance(error, RowError):
            raise
        what = f"cannot be read: {str(error).splitlines()[0]}"
        raise RowError(what, where=path, do="check address and keys") from error


def _size(file: Path) -> int:
    return file.stat().st_size


class _Counted(io.RawIOBase):
    """A file of which only the first `size` bytes are there, hashed as they are read in order."""

    def __init__(self, raw: Any, size: int, label: str, size_now: Callable[[], int]) -> None:
        self.raw, self.size, self.label, self.size_now, self.left = raw, size, label, size_now, size
        self.content = hashlib.blake2b(digest_size=16)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.raw.read(min(len(buffer), self.left))
        buffer[: len(data)] = data
        self.left -= len(data)
        self.content.update(data)
        return len(data)

    def all_of_it(self) -> bytes:
        """The bytes that were not yet read; for formats that need the whole file."""
        data = bytes(self.raw.read(self.left))
        self.left -= len(data)
        self.content.update(data)
        return data


def _file(label: str, file: _Counted, settings: Curation, reading: Reading) -> Iterator[tuple[str, str | RowError]]:
    ending = format_of(Path(label))
    entry: dict[str, Any] = {"path": label, "bytes": file.size}
    reading.files.append(entry)
    try:
        if ending == ".jsonl":
            yield from _json_lines(_unpacked(file), label, settings)
        elif ending in READERS:
            # These need the whole file, or a seekable one; places and errors are the readers' own.
            whole: IO[bytes] = io.BytesIO(file.all_of_it())
            if settings.encoding != "auto" and ending != ".parquet":
                whole = io.BytesIO(_unpacked(whole, label).read().decode(settings.encoding).encode())
            for place, row in READERS[ending](_unpacked(whole, label), label):
                yield place, json_of(row, place)
        else:
            raise RowError(f"whet does not read {ending or 'files without an ending'}", where=label)
    except (EOFError, OSError, UnicodeError) as error:
        if isinstance(error, RowError):
            raise
        raise RowError(f"cannot be read: {error}", where=label) from error
    now = file.size_now()
    if file.left:
        what = f"became {file.left:,} bytes shorter while it was read"
        raise RowError(what, where=label, do="copy it, then start again")
    if now != file.size:
        reading.warnings.append(f"{label} grew while it was read: its first {file.size:,} bytes were taken")
    entry["blake2b"] = file.content.hexdigest()


def _unpacked(file: Any, label: str | None = None) -> Any:
    import gzip

    if (label or file.label).lower().endswith(".gz"):
        return gzip.GzipFile(fileobj=file)
    return file if isinstance(file, io.BytesIO) else io.BufferedReader(file, 1 << 20)


def _json_lines(file: IO[bytes], label: str, settings: Curation) -> Iterator[tuple[str, str | RowError]]:
    """One object a line. What is wrong with a line is that line's alone."""
    encoding, lines = _decoding(file, label, settings)
    for number, (raw, size) in enumerate(lines, 1):
        if size <= settings.max_row_bytes and not raw.strip():
            continue
        place = f"{label}:{number}"
        try:
            if size > settings.max_row_bytes:
                raise RowError(f"a row of {size:,} bytes, over max_row_bytes {settings.max_row_bytes:,}", where=place)
            yield place, _line(raw if encoding is None else raw.decode(encoding).encode(), label, number)
        except UnicodeDecodeError as error:
            yield place, _fault(f"not {encoding}: byte {error.start} is 0x{raw[error.start]:02X}", place, raw)
        except RowError as error:
            error.__dict__["raw"] = raw[:1000].decode(errors="replace")
            yield place, error


def _line(raw: bytes, label: str, number: int) -> str:
    """A line as the JSON of a row; orjson where it can, else the parser whose errors have columns."""
    try:
        row = orjson.loads(raw)
        text = raw.decode().strip()
    except (orjson.JSONDecodeError, UnicodeDecodeError):
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            what = f"not UTF-8: byte {error.start} of the line is 0x{raw[error.start]:02X}"
            raise RowError(what, where=f"{label}:{number}", do="set `encoding`, e.g. cp1252") from None
        row = parse_json(text.removeprefix("\ufeff") if number == 1 else text, label, number)
        text = json_of(row, f"{label}:{number}") if isinstance(row, dict) else text
    if not isinstance(row, dict):
        raise RowError(f"{kind_of_value(row)}, but a row is an object", where=f"{label}:{number}")
    return text


def _fault(what: str, place: str, raw: bytes) -> RowError:
    error = RowError(what, where=place)
    error.__dict__["raw"] = raw[:1000].decode(errors="replace")
    return error


def _decoding(file: IO[bytes], label: str, settings: Curation) -> tuple[str | None, Iterator[tuple[bytes, int]]]:
    """(encoding, lines): None for UTF-8. UTF-16 and -32 are decoded as a stream, since their line ends are wide."""
    head = file.peek(4)[:4] if hasattr(file, "peek") else b""
    marks = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
    wide = next((name for mark, name in marks if head.startswith(mark)), None)
    name = wide if settings.encoding == "auto" else settings.encoding
    if name is None:
        if head.startswith(codecs.BOM_UTF8):
            file.read(3)
        return None, _lines(file, settings.max_row_bytes)
    try:
        codecs.lookup(name)
    except LookupError:
        what = f"no encoding is called {name!r}"
        raise RowError(what, where=label, do="e.g. utf-8, cp1252, latin-1, utf-16") from None
    if name.lower().replace("_", "-").startswith(("utf-16", "utf-32")):
        text = io.TextIOWrapper(file, encoding=name, newline="\n")
        return None, ((line.encode(), len(line.encode())) for line in text)
    return name, _lines(file, settings.max_row_bytes)


def _lines(file: IO[bytes], limit: int) -> Iterator[tuple[bytes, int]]:
    """(line, its bytes); of a line over `limit` only the beginning is kept, so a file without line ends fits memory."""
    while head := file.readline(limit + 2):
        size = len(head)
        if size > limit + 1 and not head.endswith(b"\n"):
            head = head[:1000]
            while rest := file.readline(1 << 20):
                size += len(rest)
                if rest.endswith(b"\n"):
                    break
        yield head, size
