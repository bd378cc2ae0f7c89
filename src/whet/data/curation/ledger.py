"""The ledger: what each step did, by count, by reason and by example, and hashes that say whether two runs agree."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

EXAMPLES = 10
EXCERPT = 160


@dataclass
class Entry:
    """One step. `seconds` is the step's own time, summed over processes. `content` is BLAKE2b over the content before
    it and every change it made: equal where input, steps and results are."""

    step: str
    settings: dict[str, Any]
    rows_in: int = 0
    changed: int = 0
    dropped: int = 0
    added: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    content: Any = None

    def begin(self, content: str) -> None:
        """Start the hash from the content before this step."""
        self.content = hashlib.blake2b(content.encode(), digest_size=16)

    def happened(self, index: int, what: str) -> None:
        """Add to the hash that row `index` became `what`: a digest, or "" where it was dropped."""
        self.content.update(f"\n{index} {what}".encode())

    @property
    def rows_out(self) -> int:
        return self.rows_in - self.dropped + self.added

    def example(self, place: str, reason: str, before: str, after: str) -> None:
        """Keep the first ten of each reason."""
        of_reason = self.examples.setdefault(reason, [])
        if len(of_reason) < EXAMPLES:
            of_reason.append({"place": place, "reason": reason, "before": before, "after": after})

    def ten(self) -> list[dict[str, str]]:
        """Ten examples: the first of each reason in turn, then the second of each, ..."""
        turns = zip_longest(*self.examples.values())
        return [example for turn in turns for example in turn if example is not None][:EXAMPLES]

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "step": self.step, "settings": self.settings, "rows_in": self.rows_in, "changed": self.changed,
            "dropped": self.dropped, "added": self.added, "rows_out": self.rows_out,
            "reasons": dict(self.reasons.most_common()), "notes": self.notes, "examples": self.ten(),
            "seconds": round(self.seconds, 3), "rows_per_second": round(self.rows_in / max(self.seconds, 1e-9)),
            "content": self.content.hexdigest(),
        }  # fmt: skip


def digest(row: str) -> str:
    """A row's content, short."""
    return hashlib.blake2b(row.encode(), digest_size=8).hexdigest()


def excerpts(before: str, after: str | None) -> tuple[str, str]:
    """Two texts cut to where they first differ; without `after`, the beginning of `before`."""
    if after is None:
        return _cut(before, 0), ""
    same = next(
        (n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after))
    )
    start = max(same - EXCERPT // 3, 0)
    return _cut(before, start), _cut(after, start)


def _cut(text: str, start: int) -> str:
    return ("…" if start else "") + text[start : start + EXCERPT] + ("…" if len(text) > start + EXCERPT else "")


@dataclass
class Ledger:
    """All of a run. `versions` and `seed` with the same input give the same `output`."""

    seed: int
    versions: dict[str, str]
    reading: dict[str, Any]
    steps: list[Entry]
    output: str = ""
    output_content: str = ""
    rows: int = 0

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "seed": self.seed, "versions": self.versions, "input": self.reading,
            "steps": [entry.plain() for entry in self.steps],
            "output": {"path": self.output, "rows": self.rows, "blake2b": self.output_content},
        }  # fmt: skip

    def table(self) -> Table:
        """For the terminal: a line a step, and below it why."""
        from rich.table import Table

        table = Table(box=None, header_style="bold", pad_edge=False)
        for name in ("step", "rows in", "changed", "dropped", "added", "rows out"):
            table.add_column(name, justify="left" if name == "step" else "right")
        table.add_column("why", overflow="fold")
        table.add_column("rows/s", justify="right")
        for entry in self.steps:
            numbers = entry.rows_in, entry.changed, entry.dropped, entry.added, entry.rows_out
            why = ", ".join(f"{reason} {count:,}" for reason, count in entry.reasons.most_common(4))
            why += ", ..." if len(entry.reasons) > 4 else ""
            rate = f"{entry.rows_in / entry.seconds:,.0f}" if entry.seconds > 0.01 else ""
            table.add_row(entry.step, *(f"{number:,}" if number else "·" for number in numbers), why, rate)
        return table
