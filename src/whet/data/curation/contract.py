"""What a step of curation is. There are two kinds, and the engine knows nothing else of them.

A RowStep sees rows apart: it runs in parallel, wherever the rows are. A SetStep must see all of them (duplicates,
balance, selection): in parallel it draws a few features from each row, then decides once, over the features of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np

from whet.recipe.part import Part

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]


class Record(NamedTuple):
    """A row on its way: its number in the stage (from 0), where it came from, its columns. Never changed in place."""

    number: int
    place: str
    row: Row


class Outcome(NamedTuple):
    """What a RowStep did with a row: `row` is the same object (nothing), another one (changed), or None (dropped).

    `reasons` are short and few, as they are counted: "mojibake", "too few words". `detail` is the row's own. `reject`
    is what the rejects file keeps of a dropped row, where that must not be the row itself.
    """

    row: Row | None
    reasons: tuple[str, ...] = ()
    detail: str = ""
    reject: Row | None = None


@dataclass(frozen=True)
class Context:
    """What every step of a run shares. `columns` are the ones that hold text, none for whet's own names;
    `prompt_columns` and `answer_columns` those that ask and answer (see `texts.prompt_and_answer`).

    `services` are functions that a higher room lends, for steps that ask a model: "perplexity", "embed", "generate".
    A step that uses one runs on the driver, and only there are they to be had. `beside` begins the names of files that
    may stand beside the output ("out" for out.jsonl), for what is dear to make again; None where nothing is written
    here.
    """

    seed: int = 0
    columns: tuple[str, ...] = ()
    prompt_columns: tuple[str, ...] = ()
    answer_columns: tuple[str, ...] = ()
    services: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    beside: str | None = None

    def draw(self, *salt: str | int) -> np.random.Generator:
        """A generator of its own for a step and a row: the same whatever ran before, and wherever."""
        import hashlib

        spelled = "\0".join(map(str, (self.seed, *salt))).encode()
        return np.random.default_rng(int.from_bytes(hashlib.blake2b(spelled, digest_size=16).digest(), "little"))


class RowStep:
    """A step that sees rows apart. `settings` is its part of the recipe; one instance a process.

    `private`: the texts of its rows never reach the ledger; an example shows the outcome's `detail` and nothing else.
    """

    settings: ClassVar[type[Part]] = Part
    private: ClassVar[bool] = False

    def __init__(self, settings: Any, context: Context) -> None:
        self.set, self.context = settings, context

    def __call__(self, records: Sequence[Record]) -> list[Outcome]:
        """An outcome for each record, in order."""
        raise NotImplementedError


class Rows(Protocol):
    """The rows of a stage, as a SetStep's `decide` may ask for them again."""

    @property
    def count(self) -> int:
        """How many rows there are."""

    def records(self, indices: Iterable[int] | None = None) -> Iterator[Record]:
        """The rows with these numbers (all, if None), in order of number, read from disk one block at a time."""


class Made(NamedTuple):
    """A row that a step made from row number `source`: `reason` says how. Where none came of it, `refused` says why,
    and `row` is what was refused, if there was anything: it goes to the rejects, and the source stays."""

    source: int
    row: Row | None
    reason: str
    refused: str = ""


@dataclass
class Decision:
    """What a SetStep decided. Arrays are by row number [count].

    `keep` bool. `why` (row number -> reason, detail) for every row that is dropped or changed. `columns`: new values of
    columns, by row number. `copies`: how often a kept row is written, 1 if None. `added`: rows made, in order of their
    sources, behind which they are written; a generator makes them as they are written, and may still change `notes`:
    figures for the ledger, JSON. `plots`: SVG pictures by name, written beside the output.
    """

    keep: np.ndarray
    why: dict[int, tuple[str, str]] = field(default_factory=dict)
    columns: dict[int, Row] = field(default_factory=dict)
    copies: np.ndarray | None = None
    added: Iterable[Made] = ()
    notes: dict[str, Any] = field(default_factory=dict)
    plots: dict[str, bytes] = field(default_factory=dict)


class SetStep:
    """A step that must see all rows. `features` runs in parallel, `decide` once.

    A step that must know something of all rows before it can say anything of one learns it first: from a survey, or
    from rows that it asks for. `schema` and `features` see what it learnt as `state`.
    """

    settings: ClassVar[type[Part]] = Part
    state: Any = None
    """What `learn` gave last, in every process; None in the first survey. It travels pickled: keep it small."""

    def __init__(self, settings: Any, context: Context) -> None:
        self.set, self.context = settings, context

    def schema(self) -> pa.Schema:
        """The features of a row, by name and Arrow type. Keep them small: those of all rows are held in memory."""
        raise NotImplementedError

    def features(self, records: Sequence[Record]) -> dict[str, Any]:
        """The features of these rows: a list or array [records] a name."""
        raise NotImplementedError

    def learn(self, features: pa.Table | None, rows: Rows) -> Any:
        """After a survey (None: one of no features): the next survey's `state`, or None to go on and decide."""
        return None

    def decide(self, features: pa.Table, rows: Rows) -> Decision:
        """What becomes of each row; `features` are in order of row number."""
        raise NotImplementedError


Step = RowStep | SetStep
