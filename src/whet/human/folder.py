"""The review's folder: review.json (settings, judges and their tokens), items.jsonl, judgements.jsonl, results/."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from whet.errors import RowError, RunError, StorageError
from whet.human.log import NAME, Judgement, read_log, set_aside
from whet.human.pairs import Material
from whet.human.plan import Item, Judge, Question, left_of, planned
from whet.look import write_whole

SETTINGS, ITEMS, LOCK = "review.json", "items.jsonl", ".lock"


@dataclass(frozen=True)
class Review:
    """A review as it was set up. Nothing of it changes once judges have links."""

    folder: Path
    seed: int
    models: list[str]
    items: dict[str, Item]
    judges: list[Judge]
    rubric: list[Question]
    notes: list[str]

    def left(self, judge: Judge, item: Item) -> int:
        """The answer, 0 or 1, that the judge sees at the left."""
        return left_of(self.seed, judge.name, item.id)

    @property
    def log(self) -> Path:
        return self.folder / NAME


def is_review(folder: Path) -> bool:
    return (folder / SETTINGS).is_file()


def create(
    folder: Path,
    material: Material,
    judges: Sequence[str],
    *,
    rubric: Sequence[Question] = (),
    attention: float = 0.05,
    overlap: int | None = None,
    seed: int = 0,
) -> Review:
    """Plan a review and write it. Raises RunError for a folder that has anything in it, StorageError."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        do = f"go on with it: whet review {folder}" if is_review(folder) else "name another with --to"
        raise RunError("there is something already", where=f"--to {folder}", do=do)
    items, seats, notes = planned(material, judges, attention, overlap, seed)
    review = Review(folder, seed, material.models, {item.id: item for item in items}, seats, list(rubric),
                    material.notes + notes)  # fmt: skip
    settings = {
        "seed": seed, "models": review.models, "rubric": [asdict(question) for question in rubric],
        "notes": review.notes, "judges": [asdict(judge) for judge in seats],
    }  # fmt: skip
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)  # tokens and judgements are nobody else's
    except OSError as error:
        raise StorageError(str(error), where=f"--to {folder}", do="name another folder") from None
    write_whole(folder / ITEMS, "".join(json.dumps(asdict(item)) + "\n" for item in items))
    write_whole(folder / SETTINGS, json.dumps(settings, indent=1))  # last: a folder with it is whole
    return review


def open_review(folder: Path) -> Review:
    """A review as `create` wrote it. Raises RunError where there is none, or it is broken."""
    if not is_review(folder):
        raise RunError("no review here", where=str(folder), do="whet review A.jsonl B.jsonl --to FOLDER makes one")
    try:
        tree: dict[str, Any] = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        lines = (folder / ITEMS).read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        pairs = {row["id"]: Item(**row | {key: tuple(row[key]) for key in ("answers", "models")}) for row in rows}
        return Review(
            folder, tree["seed"], tree["models"], pairs, [Judge(**judge) for judge in tree["judges"]],
            [Question(**question) for question in tree["rubric"]], tree["notes"],
        )  # fmt: skip
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise RunError(
            f"broken: {error}", where=str(folder), do="take it from a copy, or set the review up anew"
        ) from None


def judgements_of(review: Review) -> tuple[list[Judgement], int]:
    """The review's log, as `read_log` gives it. Raises RowError for a judgement of what is not in the review."""
    found, torn = read_log(review.log)
    theirs = {judge.name: set(judge.items) for judge in review.judges}
    for line, each in enumerate(found, 1):
        if each.item not in theirs.get(each.judge, ()):
            raise RowError(
                f"{each.judge!r} has no item {each.item!r} in this review",
                where=f"{review.log}:{line}",
                do="the log belongs to another review: put the right one in its place",
            )
    return found, torn


@contextmanager
def held(review: Review) -> Iterator[tuple[list[Judgement], list[str]]]:
    """Hold the review against other servers; its judgements so far, and what is to be said of the log.

    The system lets go of it when the process ends, however it ends. Raises RunError where another server is at work.
    """
    with (review.folder / LOCK).open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                "another server is at work in this review",
                where=str(review.folder),
                do="use its links, or end it first",
            ) from None
        judgements, torn = judgements_of(review)
        notes = []
        if torn:
            set_aside(review.log, torn)
            notes.append(
                f"the log ended in {torn:,} bytes of a line that a crash cut off; they are set aside in torn.bin. "
                "Whoever made that judgement was not told that it was saved, and is asked again."
            )
        yield judgements, notes
