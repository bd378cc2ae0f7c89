"""The two forms a row has on its way: `Example`, as people wrote it, and `Row`, as the model sees it.

`data` makes examples, `tokens` renders them, an objective says which rows an example yields, the engine packs rows.
These rooms do not import each other; what passes between them is here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

OTHER = "other"
"""The role of a companion that is no answer of the example's own, and that nothing is learnt from."""

Message = dict[str, Any]
"""`role` (system | developer | user | assistant | tool) and `content`; an assistant's may have `tool_calls` and
`weight` (0: not learnt, as OpenAI has it)."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row of the user's data, in one spelling whatever the file's columns were called.

    `shape` says which fields are filled:

    ============  =================================================================================
    conversation  `messages`; assistant turns with weight 0 are context only
    text          `text`
    preference    `prompt`, `chosen`, `rejected` (turns after the prompt)
    label         `prompt`, `chosen` (the completion), `label`
    prompt        `prompt` alone; the answer is sampled and graded with the help of `extra`
    ============  =================================================================================
    """

    place: str  # "train.jsonl:7", for messages
    shape: str
    messages: list[Message] = field(default_factory=list)
    text: str = ""
    prompt: list[Message] = field(default_factory=list)
    chosen: list[Message] = field(default_factory=list)
    rejected: list[Message] = field(default_factory=list)
    label: bool | None = None
    tools: list[dict[str, Any]] | None = None
    id: str | None = None
    weight: float = 1.0
    group: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)  # every other column


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence to learn from or to score.

    `ids` [L] int32. `targets` [L] bool: True where the token itself is learnt, so `targets[0]` never counts (nothing
    predicts it). `weight` multiplies the row's loss. `role` tells the rows of one example apart (chosen, rejected).
    `companions` are those that are scored beside it, in the same pack: the rejected answer of a chosen one. `given` are
    numbers known before the step, float32 [target_count] each: the reference's log-probabilities, an advantage.
    """

    ids: np.ndarray
    targets: np.ndarray
    weight: float = 1.0
    group: str | None = None
    role: str = ""
    place: str = ""
    companions: tuple[Row, ...] = ()
    given: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def target_count(self) -> int:
        return int(self.targets[1:].sum())


def with_companions(rows: Sequence[Row]) -> tuple[list[Row], list[int]]:
    """All rows and their companions, each by itself, in order; and which of `rows` each belongs to."""
    flat: list[Row] = []
    owner: list[int] = []
    for number, row in enumerate(rows):
        flat += [replace(row, companions=()), *row.companions] if row.companions else [row]
        owner += [number] * (1 + len(row.companions))
    return flat, owner


def own(rows: Sequence[Row]) -> list[Row]:
    """The rows and the companions that are of their examples."""
    return [row for row in with_companions(rows)[0] if row.role != OTHER]


def read_at_end(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and targets of a row whose one target is what would follow the last of `ids`: there a reward is read, and
    an answer begins. The target itself is token 0, which nothing looks at."""
    return np.append(ids, np.int32(0)), np.arange(len(ids) + 1) == len(ids)


def given(row: Row, **numbers: np.ndarray) -> Row:
    """The row with more numbers known of its targets."""
    return replace(row, given={**row.given, **numbers})


def named(places: Sequence[str], first: int = 3) -> str:
    """The first few places, and how many more there are."""
    more = f" and {len(places) - first:,} more" if len(places) > first else ""
    return ", ".join(places[:first]) + more
