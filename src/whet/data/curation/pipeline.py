"""`curate`: rows through steps into a file, with ledger and rejects; whole, or nothing is left behind."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from whet.data.curation import engine, output
from whet.data.curation.contract import Context, Decision, Made, RowStep, SetStep
from whet.data.curation.ledger import EXAMPLES, EXCERPT, Entry, Ledger, digest, excerpts
from whet.data.curation.progress import Progress
from whet.data.curation.settings import Curation, make_step, settings_of
from whet.data.curation.source import read_files, read_rows
from whet.data.curation.stage import Stage, StageWriter, spelled
from whet.data.curation.texts import joined
from whet.errors import RowError, StorageError, did_you_mean

Source = str | Path | list[str] | Iterable[dict[str, Any]]


@dataclass
class Curated:
    """What came of it. `rows` only where no output was named; `files` are the output, plots, rejects and ledger.
    `plots` are SVG pictures by name."""

    ledger: Ledger
    rows: list[dict[str, Any]] | None
    files: list[str]
    plots: dict[str, bytes] = field(default_factory=dict)


def curate(
    source: Source,
    steps: Curation | list[Any],
    out: str | Path | None = None,
    *,
    ray: str | None = None,
    overwrite: bool = False,
    quiet: bool = True,
    **services: Any,
) -> Curated:
    """Run rows through steps.

    `source` is a path (file, folder, glob, hub:, s3://), several, or rows. `steps` is a Curation, or the list that its
    `steps` would be. With `out` (.jsonl, .parquet, .csv) the rows go there, beside `out.rejects.jsonl` with every
    dropped row and its reason, and `out.ledger.json`; else they come back as `rows`. `ray` is the address of a cluster.
    `services` are for steps that ask a model (see contract.Context).

    Raises RecipeError, RowError or StorageError; then, as after Ctrl-C, nothing is written, and what was there stays.
    """
    from whet.data.curation.settings import check_curation

    curation = steps if isinstance(steps, Curation) else check_curation({"steps": steps}, "steps")
    target = str(out) if out is not None else None
    if target is not None:
        output.check_output(target, overwrite)
    try:
        work = _work_folder(target)
    except OSError as error:
        raise StorageError(f"cannot write: {error.strerror}", where=target) from error
    try:
        with Progress(quiet) as progress:
            beside = None if target is None or output.is_remote(target) else output.sidecar(target, "")[:-1]
            context = replace(curation.context(**services), beside=beside)
            return _Run(curation, context, work, progress, ray).all(source, target)
    except OSError as error:
        if isinstance(error, (RowError, StorageError)):
            raise
        raise StorageError(f"{error.strerror or error}", where=target or str(work)) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _work_folder(target: str | None) -> Path:
    """A folder of its own: beside the output, as there is room for it; else where temporary files go."""
    if target is None or output.is_remote(target):
        return Path(tempfile.mkdtemp(prefix="whet-")).resolve()
    folder = Path(target.split("{")[0] + "x").parent
    folder.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=".whet-", dir=folder)).resolve()


class _Run:
    """The state of one run: the folder it works in, the rejects, and the entries of its ledger so far."""

    def __init__(self, curation: Curation, context: Context, work: Path, progress: Progress, ray: str | None) -> None:
        self.curation, self.context, self.work, self.progress, self.ray = curation, context, work, progress, ray
        self.entries: list[Entry] = []
        self.rejects = (work / "rejects.jsonl").open("w", encoding="utf-8")
        self.stages = 0
        self.plots: dict[str, bytes] = {}
        self.input_content = ""

    def all(self, source: Source, target: str | None) -> Curated:
        stage, reading = self._read(source)
        specs = [next(iter(step.items())) for step in self.curation.steps]
        while specs:
            step = make_step(*specs[0], self.context)
            if isinstance(step, SetStep):
                stage = self._set_step(stage, specs.pop(0), step)
            else:
                chain = []
                while specs and isinstance(make_step(*specs[0], self.context), RowStep):
                    chain.append(specs.pop(0))
                stage = self._chain(stage, chain)
        self.rejects.close()
        ledger = Ledger(self.curation.seed, _versions(), reading, self.entries, rows=stage.count)
        if target is None:
            return Curated(ledger, [record.row for record in stage.records()], [], self.plots)
        return Curated(ledger, None, self._write(stage, target, ledger), self.plots)

    def _read(self, source: Source) -> tuple[Stage, dict[str, Any]]:
        folder = self._next_folder()
        if isinstance(source, (str, Path)) or (isinstance(source, list) and source and isinstance(source[0], str)):
            paths = [str(source)] if isinstance(source, (str, Path)) else [str(path) for path in source]
            count = self.progress.reading()
            stage, reading = read_files(paths, self.curation, folder, self._reject_broken, count)
        else:
            stage, reading = read_rows(source, folder)  # type: ignore[arg-type]
        self.input_content = output.joined_content([file.get("blake2b", file["path"]) for file in reading.files])
        plain = {"files": reading.files, "rows": reading.rows, "broken": len(reading.broken)}
        self._check_columns(stage)
        plain["first_broken"] = [list(pair) for pair in reading.broken[:EXAMPLES]]
        return stage, plain | {"warnings": reading.warnings}

    def _check_columns(self, stage: Stage) -> None:
        """Raises RowError where a column that is to hold text is in none of the first thousand rows."""
        known = {name: None for record in islice(stage.records(), 1000) for name in record.row}
        for name in self.curation.columns:
            if name not in known:
                raise RowError(f"no column `{name}`.{did_you_mean(name, known)}", do=f"there are: {', '.join(known)}")

    def _chain(self, stage: Stage, specs: list[engine.Spec]) -> Stage:
        entries = [self._entry(spec) for spec in specs]
        self.progress.step(" → ".join(name for name, _ in specs), stage.count)
        with_log = engine.run_chain(stage, specs, self.context, self.ray)
        writer = StageWriter(self._next_folder())
        changes: list[list[tuple[int, str]]] = [[] for _ in specs]
        for index, place, row, packed in with_log:
            log = orjson.loads(packed) if packed else {}
            dropped = log.get("dropped", len(specs))
            if "fault" in log:
                engine.raise_fault(log["fault"])
            for number, seconds in enumerate(log.get("seconds", ())):
                entries[number].seconds += seconds
            for number, reasons, detail, before, after, new in log.get("does", ()):
                changes[number].append((index, new))
                self._tell(entries[number], place, reasons, before, after)
                if number == dropped:
                    self._reject(place, specs[number][0], reasons[0], detail, row)
                else:
                    entries[number].changed += 1
            for entry in entries[: dropped + 1]:
                entry.rows_in += 1
            if dropped < len(specs):
                entries[dropped].dropped += 1
            else:
                writer.add(place, row)
            self.progress.advance()
        for entry, of_entry in zip(entries, changes, strict=True):
            self._begin(entry)
            for index, new in of_entry:
                entry.happened(index, new)
        self._check_left(entries)
        return writer.close()

    def _set_step(self, stage: Stage, spec: engine.Spec, step: SetStep) -> Stage:
        entry = self._entry(spec)
        self._begin(entry)
        entry.rows_in = stage.count
        begin = time.perf_counter()
        self.progress.step(spec[0], None)
        features = self._survey(stage, spec, step)
        while (state := step.learn(features, stage)) is not None:
            step.state = state
            features = self._survey(stage, spec, step)
        decision = step.decide(features, stage)
        entry.notes = decision.notes
        entry.seconds = time.perf_counter() - begin
        for name, plot in decision.plots.items():
            again = sum(known.split("-")[0] == name for known in self.plots)
            self.plots[f"{name}-{again + 1}" if again else name] = plot
        writer = StageWriter(self._next_folder())
        self.progress.step(spec[0], stage.count)
        self._apply(stage, decision, entry, writer)
        self._check_left([entry])
        return writer.close()

    def _survey(self, stage: Stage, spec: engine.Spec, step: SetStep) -> Any:
        if not step.schema().names:
            return None
        return engine.survey(stage, *spec, step, self.context, self.ray)

    def _apply(self, stage: Stage, decision: Decision, entry: Entry, writer: StageWriter) -> None:
        made = iter(decision.added)
        new = self._next_made(made, entry)
        for index, place, row in stage.lines():
            reason, detail = decision.why.get(index, ("", ""))
            keep = bool(decision.keep[index])
            after = spelled(orjson.loads(row) | decision.columns[index]) if keep and index in decision.columns else row
            if reason:
                before = ""
                if entry.reasons[reason] < EXAMPLES:  # no more are kept
                    before = excerpts(joined(orjson.loads(row), self.context.columns), None)[0]
                self._tell(entry, place, [reason], before, detail[:EXCERPT])
            if not keep:
                entry.dropped += 1
                entry.happened(index, "")
                self._reject(place, entry.step, reason or "not kept", detail, row)
            else:
                entry.changed += after is not row
                copies = 1 if decision.copies is None else int(decision.copies[index])
                entry.added += copies - 1
                if copies != 1 or after is not row:
                    entry.happened(index, f"{copies} {digest(after)}")
                for copy in range(1, copies + 1):
                    writer.add(place if copy == 1 else f"{place} (copy {copy})", after)
            while new is not None and new.source == index:
                self._add(new, place, row, entry, writer)
                new = self._next_made(made, entry)
            self.progress.advance()
        if new is not None:
            raise RuntimeError(f"{entry.step} gave rows made from row {new.source} out of order")

    def _next_made(self, made: Iterator[Made], entry: Entry) -> Made | None:
        begin = time.perf_counter()
        new = next(made, None)
        entry.seconds += time.perf_counter() - begin
        return new

    def _add(self, new: Made, place: str, source: str, entry: Entry, writer: StageWriter) -> None:
        place = f"{place} (made)"
        if new.refused or new.row is None:
            entry.reasons[new.refused] += 1
            self._reject(place, entry.step, new.refused, new.reason, spelled(new.row))
            return
        after = spelled(new.row)
        shown = ("", "")
        if entry.reasons[new.reason] < EXAMPLES:
            columns = self.context.columns
            shown = excerpts(joined(orjson.loads(source), columns), joined(new.row, columns))
        self._tell(entry, place, [new.reason], *shown)
        entry.added += 1
        entry.happened(-1, digest(after))
        writer.add(place, after)

    def _entry(self, spec: engine.Spec) -> Entry:
        entry = Entry(spec[0], settings_of(*spec, where=spec[0]).model_dump(mode="json"))
        self.entries.append(entry)
        return entry

    def _begin(self, entry: Entry) -> None:
        at = self.entries.index(entry)
        entry.begin(self.entries[at - 1].content.hexdigest() if at else self.input_content)

    def _tell(self, entry: Entry, place: str, reasons: list[str], before: str, after: str) -> None:
        entry.reasons.update(reasons)
        if before or after:
            entry.example(place, reasons[0], before, after)

    def _reject(self, place: str, step: str, reason: str, detail: str, row: str) -> None:
        head = orjson.dumps({"place": place, "step": step, "reason": reason, "detail": detail}).decode()
        self.rejects.write(f'{head[:-1]},"row":{row}}}\n')

    def _reject_broken(self, place: str, reason: str, raw: Any) -> None:
        line = {"place": place, "step": "read", "reason": reason, "raw": raw}
        self.rejects.write(orjson.dumps(line).decode() + "\n")

    def _check_left(self, entries: list[Entry]) -> None:
        for entry in entries:
            if entry.rows_in and not entry.rows_out:
                why = ", ".join(f"{reason} {count:,}" for reason, count in entry.reasons.most_common(3))
                raise RowError(
                    f"step {self.entries.index(entry) + 1}, {entry.step}, drops every row ({why})",
                    do=f"look at its settings: {entry.settings}" if entry.settings else f"leave {entry.step} out",
                )

    def _next_folder(self) -> Path:
        """A new stage's folder; of those before, only the last is still needed."""
        self.stages += 1
        if self.stages > 2:
            shutil.rmtree(self.work / f"stage-{self.stages - 2}", ignore_errors=True)
        return self.work / f"stage-{self.stages}"

    def _write(self, stage: Stage, target: str, ledger: Ledger) -> list[str]:
        self.progress.step("writing", stage.count)
        files = output.write(self.progress.each(stage.lines()), target, self.work)
        ledger.output = target
        contents = [output.content_of(file) for file, _, _ in files]
        ledger.output_content = contents[0] if len(contents) == 1 else output.joined_content(contents)
        account = self.work / "ledger.json"
        account.write_bytes(orjson.dumps(ledger.plain(), option=orjson.OPT_INDENT_2))
        beside = [
            (self.work / "rejects.jsonl", output.sidecar(target, "rejects.jsonl"), 0),
            (account, output.sidecar(target, "ledger.json"), 0),
        ]
        pictures = []
        for name, plot in self.plots.items():
            picture = self.work / f"{name}.svg"
            picture.write_bytes(plot)
            pictures.append((picture, output.sidecar(target, f"{name}.svg"), 0))
        output.publish([*pictures, *beside, *files])
        return [path for _, path, _ in (*files, *pictures, *beside)]


def _versions() -> dict[str, str]:
    import platform
    from importlib.metadata import version

    found = {name: version(name) for name in ("whet", "daft", "pyarrow", "numpy")}
    return {"python": platform.python_version(), **found}


def everything(count: int) -> np.ndarray:
    """`keep` of a Decision that drops nothing."""
    return np.ones(count, dtype=bool)
