"""Rows -> Card: a tally of what is there, and what the steps of curation would flag."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whet.data.card.checks import CHECKS, Check
from whet.data.card.tally import CountTokens, Tally, tally
from whet.data.curation.ledger import Entry
from whet.data.curation.pipeline import curate
from whet.data.curation.progress import Progress
from whet.data.curation.settings import Curation, check_curation
from whet.data.curation.source import Reading, read_files

_NOTES = ("source", "readme", "license", "licence", "notice")
NOTE = 1500
"""Characters shown of a note beside the rows."""


@dataclass
class Section:
    """What one check found: what, and in how many rows (or values, where it counts these); and rows in all."""

    title: str
    about: str
    nothing: str
    counts: list[tuple[str, int]]
    rows: int
    unit: str


@dataclass
class Card:
    """All that the page shows."""

    title: str
    reading: Reading
    tally: Tally
    sections: list[Section]
    duplicates: Counter[str]
    leaks: tuple[int, list[str]] | None
    """Rows that share text with held-out files, and these files; None where none was named."""
    licence: str | None
    notes: list[tuple[str, str]]
    versions: dict[str, str]

    @property
    def balance(self) -> list[tuple[str, Counter[str]]]:
        """The columns that sort rows into a few kinds, with the rows of each value."""
        found = [(name, column.balance(self.tally.rows)) for name, column in self.tally.columns.items()]
        return [(name, values) for name, values in found if values is not None]


def card(
    paths: list[str],
    *,
    against: list[str] | None = None,
    licence: str | None = None,
    examples: bool = True,
    count_tokens: CountTokens | None = None,
    quiet: bool = True,
    **settings: Any,
) -> Card:
    """The card of all rows of these paths. `against` are held-out files to look for leaks of; `count_tokens` makes
    lengths tokens instead of words; without `examples` no row is shown, nor any note beside the rows; `settings` are
    those of a Curation (columns, encoding, seed, ...).

    Nothing is changed or written. Raises RowError as `curate` does, RecipeError for a setting that does not exist.
    """
    reading_only = check_curation({**settings, "steps": ["repair"]}, "card")
    work = Path(tempfile.mkdtemp(prefix="whet-"))

    def flagged(step: str, of_step: dict[str, Any]) -> Entry:
        recipe = check_curation({**settings, "steps": [{step: of_step}]}, "card")
        return curate(paths, recipe, work / f"{step}.jsonl", quiet=quiet, overwrite=True).ledger.steps[0]

    try:
        found, reading = _tallied(paths, reading_only, work, count_tokens, quiet)
        sections = [_section(check, flagged(check.step, check.settings)) for check in CHECKS]
        same = flagged("duplicates", {})
        leaks = None
        if against:
            leak = flagged("decontaminate", {"against": against, "action": "flag"})
            leaks = (leak.changed + leak.dropped, against)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    from importlib.metadata import version

    versions = {name: version(name) for name in ("whet", "daft")}
    title = Path(paths[0].rstrip("/")).name if len(paths) == 1 else f"{len(paths)} files"
    notes = _beside(paths) if examples else []
    if not examples:
        found.examples.clear()
    return Card(title, reading, found, sections, same.reasons, leaks, licence, notes, versions)


def _tallied(
    paths: list[str], settings: Curation, work: Path, count_tokens: CountTokens | None, quiet: bool
) -> tuple[Tally, Reading]:
    with Progress(quiet) as progress:
        stage, reading = read_files(paths, settings, work / "rows", _not_kept, progress.reading())
        progress.step("counting", stage.count)
        rows = (record.row for record in stage.records())
        return tally(progress.each(rows), settings.context(), count_tokens), reading


def _not_kept(place: str, reason: str, raw: Any) -> None:
    """A broken row is counted; a card keeps no rejects."""


def _section(check: Check, entry: Entry) -> Section:
    return Section(check.title, check.about, check.nothing, check.counts(entry), check.rows(entry), check.unit)


def _beside(paths: list[str]) -> list[tuple[str, str]]:
    """(name, text) of the notes on source and licence that lie beside the rows."""
    folders = {Path(path) if Path(path).is_dir() else Path(path).parent for path in paths if "://" not in path}
    files = sorted(
        file for folder in folders if folder.is_dir() for file in folder.iterdir()
        if file.is_file() and file.name.lower().split(".")[0] in _NOTES and file.suffix.lower() in ("", ".md", ".txt")
    )  # fmt: skip
    return [(file.name, file.read_text(encoding="utf-8", errors="replace").strip()[:NOTE]) for file in files[:3]]
