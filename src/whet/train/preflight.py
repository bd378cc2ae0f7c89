"""What becomes of the rows, counted before a step is taken: nothing is cut, dropped or left unlearnt in silence."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whet.data import duplicates
from whet.errors import PreflightError, StorageError
from whet.objectives import OBJECTIVES
from whet.recipe import PreflightPart, Recipe
from whet.rows import OTHER, Example, Message, Row, own, with_companions

if TYPE_CHECKING:
    from rich.console import Console

    from whet.tokens.template import Renderer

NAMED = 5
"""Rows of each kind of loss that are named."""


@dataclass
class Tally:
    """How many rows something happened to, the first few of them by name, and the tokens that the longest needs."""

    rows: int = 0
    first: list[str] = field(default_factory=list)
    longest: int = 0

    def add(self, place: str, note: str = "", length: int = 0) -> None:
        self.rows += 1
        self.longest = max(self.longest, length)
        if len(self.first) < NAMED:
            self.first.append(f"{place} ({note})" if note else place)


@dataclass
class Side:
    """The rows of one side, training or validation, as the user has them.

    Of those `read`, a row is kept whole or as a `split`, or is in one of three tallies of loss: `cut` (kept, but not
    all of it), `dropped` (too long) or `nothing_to_learn`. A kept row gives one or more `sequences`: turns that the
    template writes apart, pieces of a text. `tokens` and `target_tokens` are of these; `lengths` are in tokens, of all
    sequences before any was cut.
    """

    read: int = 0
    sequences: int = 0
    split: Tally = field(default_factory=Tally)
    cut: Tally = field(default_factory=Tally)
    dropped: Tally = field(default_factory=Tally)
    nothing_to_learn: Tally = field(default_factory=Tally)
    long_texts: int = 0  # of the rows that are too long, those that could be split
    tokens: int = 0
    target_tokens: int = 0
    lengths: dict[str, int] = field(default_factory=dict)

    @property
    def kept(self) -> int:
        return self.read - self.dropped.rows - self.nothing_to_learn.rows

    @property
    def lost(self) -> int:
        """Rows of which something is not learnt."""
        return self.cut.rows + self.dropped.rows + self.nothing_to_learn.rows


@dataclass
class Ledger:
    """What became of the rows. `duplicated` are training rows whose content is in validation too; `unlike_serving` are
    rows learnt after another context than the prompt that serving sends, which is their chat template's doing."""

    max_length: int
    plain_template: bool
    train: Side
    validation: Side
    duplicated: Tally
    unlike_serving: Tally


@dataclass
class Prepared:
    """What training learns from and measures on; every row has a target and at most `max_length` tokens."""

    train: list[Row]
    validation: list[Row]
    ledger: Ledger


def prepare(
    recipe: Recipe,
    renderer: Renderer,
    train: Sequence[Example],
    validation: Sequence[Example],
    max_length: int,
    progress: Callable[[int], None] | None = None,
) -> Prepared:
    """Render all examples and fit them into `max_length` tokens as `recipe.preflight` says; `check` judges the ledger.

    Raises RowError and TemplateError for rows that cannot be rendered.
    """
    objective = OBJECTIVES[recipe.objective.kind]
    known = len(renderer.unlike_serving)
    sides = []
    for examples in (train, validation):
        rendered = objective.rows_of(examples, renderer, recipe.objective, progress)
        sides.append(_fit(examples, rendered, recipe.preflight, max_length))
    (train_rows, train_side), (validation_rows, validation_side) = sides
    if objective.check is not None and train_rows:
        objective.check(train_rows, recipe.objective)
    ledger = Ledger(
        max_length=max_length,
        plain_template=renderer.is_plain,
        train=train_side,
        validation=validation_side,
        duplicated=_tally(example.place for example in duplicates(train, validation)),
        unlike_serving=_tally(renderer.unlike_serving[known:]),
    )
    return Prepared(train_rows, validation_rows, ledger)


def check(ledger: Ledger, recipe: Recipe) -> None:
    """Raises PreflightError where more is lost than the recipe allows, with the first rows and what to set."""
    part = recipe.preflight
    for name, side in (("training", ledger.train), ("validation", ledger.validation)):
        nothing = side.nothing_to_learn
        if nothing.rows and part.nothing_to_learn == "stop":
            longer = _longer(ledger, recipe, nothing.longest)
            others = side.cut.rows + side.dropped.rows
            raise PreflightError(
                f"{nothing.rows:,} of {side.read:,} {name} rows have nothing to learn: {_named(nothing)}"
                + (f"; {others:,} more are cut or dropped" if others else ""),
                where="preflight",
                do="; ".join([*longer, "preflight.nothing_to_learn=drop goes on without them"]),
            )
        share = side.lost / side.read if side.read else 0.0
        if share > part.max_loss_share:
            _refuse(ledger, recipe, name, side, share)
    if not ledger.train.kept:
        raise PreflightError("no training row is left", where="preflight", do="look at the data: `whet preflight`")


def write(ledger: Ledger, folder: Path) -> None:
    """The ledger as `preflight.json` in the run folder, whole or not at all. Raises StorageError."""
    path = folder / "preflight.json"
    tree = {
        "max_length": ledger.max_length,
        "plain_template": ledger.plain_template,
        **_tally_tree("duplicated", ledger.duplicated),
        **_tally_tree("unlike_serving", ledger.unlike_serving),
        "train": _side_tree(ledger.train),
        "validation": _side_tree(ledger.validation),
    }
    temporary = path.with_name(f".{path.name}.writing")
    try:
        temporary.write_text(json.dumps(tree, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write: {error.strerror}", where=str(path)) from error


def show(ledger: Ledger, console: Console) -> None:
    """Print the ledger as a table, and beneath it what deserves a look."""
    from rich.table import Table
    from rich.text import Text

    table = Table("rows", box=None, pad_edge=False)
    for name in ("training", "validation"):
        table.add_column(name, justify="right")
    sides = (ledger.train, ledger.validation)
    for name in ("read", "kept"):
        table.add_row(name, *(f"{getattr(side, name):,}" for side in sides))
    for name in ("split", "cut", "dropped", "nothing_to_learn"):
        counts = [getattr(side, name).rows for side in sides]
        style = "bold yellow" if any(counts) and name != "split" else "dim"
        table.add_row(Text(name.replace("_", " "), style), *(Text(f"{count:,}", style) for count in counts))
    table.add_section()
    table.add_row("sequences", *(f"{side.sequences:,}" for side in sides))
    table.add_row("tokens", *(f"{side.tokens:,}" for side in sides))
    table.add_row("  of them learnt", *(f"{side.target_tokens:,}" for side in sides))
    for name in ledger.train.lengths:
        table.add_row(f"length, {name}", *(f"{side.lengths.get(name, 0):,}" for side in sides))
    console.print(table)
    for note in notes(ledger):
        console.print(Text(note), soft_wrap=True)


def _fit(
    examples: Sequence[Example], rendered: Sequence[Sequence[Row]], part: PreflightPart, max_length: int
) -> tuple[list[Row], Side]:
    """The rows that are kept, and what became of all."""
    side, kept = Side(read=len(examples)), []
    for example, rows in zip(examples, rendered, strict=True):
        if example.weight == 0 or _silent(example):
            side.nothing_to_learn.add(example.place, _reason(example))
            continue
        too_long = [needed for needed in map(_needed, own(rows)) if needed > max_length]
        splits = part.too_long == "split" and example.shape == "text"
        pieces = [piece for row in rows for piece in _shortened(row, part.too_long, splits, max_length)]
        pieces = [piece for piece in pieces if _learnable(piece)]
        side.long_texts += bool(too_long) and example.shape == "text"
        longest = max(too_long, default=0)
        note = f"{longest:,} tokens" if too_long else ""
        if not pieces and too_long and part.too_long == "drop":
            side.dropped.add(example.place, note, longest)
        elif not pieces:
            reason = f"all of it lies beyond {max_length:,} tokens" if too_long else _reason(example)
            side.nothing_to_learn.add(example.place, reason, longest)
        elif too_long:
            (side.split if splits else side.cut).add(example.place, note, longest)
        kept += pieces
    sequences = own(kept)
    side.sequences = len(sequences)
    side.tokens = sum(map(len, sequences))
    side.target_tokens = sum(row.target_count for row in sequences)
    lengths = [len(row) for rows in rendered for row in own(rows)]
    if lengths:
        quantiles = np.quantile(lengths, [0.5, 0.9, 0.99, 1.0], method="inverted_cdf")
        names = ("median", "90 %", "99 %", "longest")
        side.lengths = {name: int(length) for name, length in zip(names, quantiles, strict=True)}
    return kept, side


def _needed(row: Row) -> int:
    """Tokens through the last target; nothing is learnt from those after it."""
    targets = np.flatnonzero(row.targets[1:])
    return int(targets[-1]) + 2 if len(targets) else 0


def _shortened(row: Row, too_long: str, splits: bool, max_length: int) -> list[Row]:
    """The row in at most `max_length` tokens: as it is, without its end, in pieces, or not at all; with companions all
    of them or none. One that is not learnt from is cut, and costs nothing."""
    if row.companions:
        first, *others = (
            _shortened(each, "cut" if each.role == OTHER else too_long, False, max_length)
            for each in with_companions([row])[0]
        )
        whole = all(others) and bool(first)
        return [replace(first[0], companions=tuple(other[0] for other in others))] if whole else []
    if len(row) <= max_length:
        return [row]
    needed = _needed(row)
    if needed <= max_length:
        return [_slice(row, 0, max(needed, 1))]
    if splits:  # each piece begins with the last token of the one before, so that every token is predicted once
        return [_slice(row, begin, begin + max_length) for begin in range(0, len(row) - 1, max_length - 1)]
    return [] if too_long == "drop" else [_slice(row, 0, max_length)]


def _slice(row: Row, begin: int, end: int) -> Row:
    return replace(row, ids=row.ids[begin:end], targets=row.targets[begin:end], companions=())


def _learnable(row: Row) -> bool:
    """Whether it has targets, and each companion too; answers that are the same tokens teach no preference."""
    answers: dict[str, list[bytes]] = {}
    for one in own([row]):
        answers.setdefault(one.role, []).append(one.ids.tobytes())
    different = len(answers) == 1 or len(set(map(tuple, answers.values()))) > 1
    return different and all(one.target_count for one in own([row]))


def _silent(example: Example) -> bool:
    """Whether the assistant says nothing at all: only the stop token would be learnt, and the model fall silent."""
    sides = [side for side in (example.messages, example.chosen, example.rejected) if side]
    return any(map(_says_nothing, sides))


def _says_nothing(turns: Sequence[Message]) -> bool:
    answers = [m for m in turns if m["role"] == "assistant" and m.get("weight") != 0]
    return bool(answers) and not any(str(m.get("content") or "").strip() or m.get("tool_calls") for m in answers)


def _reason(example: Example) -> str:
    if example.weight == 0:
        return "the row has weight 0"
    if example.shape in ("preference", "label", "prompt"):
        return _reason_of_answers(example)
    if example.shape == "text":
        return "an empty text"
    answers = [message for message in example.messages if message["role"] == "assistant"]
    if not answers:
        return "no turn of the assistant"
    if _silent(example):
        return "an empty answer"
    if all(message.get("weight") == 0 for message in answers):
        return "every turn of the assistant has weight 0"
    return "the chat template marks nothing of its answers"


def _reason_of_answers(example: Example) -> str:
    for name, turns in (
        ("chosen" if example.rejected else "completion", example.chosen),
        ("rejected", example.rejected),
    ):
        if turns and _says_nothing(turns):
            return f"{name} is empty"
    if example.chosen == example.rejected:
        return "chosen and rejected are the same"
    return "the chat template marks nothing of its answers, or writes both the same"


def _refuse(ledger: Ledger, recipe: Recipe, name: str, side: Side, share: float) -> None:
    part = recipe.preflight
    tallies = {"cut": side.cut, "dropped": side.dropped, "without anything to learn": side.nothing_to_learn}
    what = "; ".join(f"{tally.rows:,} {kind}: {_named(tally)}" for kind, tally in tallies.items() if tally.rows)
    enough = math.ceil(share * 1000) / 1000
    advice = _longer(ledger, recipe, max(tally.longest for tally in tallies.values()))
    if side.long_texts and part.too_long != "split":
        advice.append("preflight.too_long=split makes several rows of a long text")
    raise PreflightError(
        f"{side.lost:,} of {side.read:,} {name} rows ({share:.1%}) lose something at {ledger.max_length:,} tokens, "
        f"more than preflight.max_loss_share={part.max_loss_share:g} allows: {what}",
        where="preflight",
        do="; ".join([*advice, f"preflight.max_loss_share={enough:g} allows it"]),
    )


def _longer(ledger: Ledger, recipe: Recipe, longest: int) -> list[str]:
    """The advice to allow longer rows, where rows are too long."""
    if not longest:
        return []
    if ledger.max_length < recipe.train.max_length:  # then it is not the recipe that limits them
        return [f"the model takes {ledger.max_length:,} tokens: shorten the rows, or take another model"]
    return [f"train.max_length={longest} keeps every row whole"]


def _named(tally: Tally) -> str:
    more = tally.rows - len(tally.first)
    return ", ".join(tally.first) + (f" and {more:,} more" if more else "")


def notes(ledger: Ledger) -> list[str]:
    """What deserves a look, a line each; none where every row is learnt whole."""
    told = []
    for name, side in (("training", ledger.train), ("validation", ledger.validation)):
        for kind in ("cut", "dropped", "nothing_to_learn"):
            tally = getattr(side, kind)
            told += [f"{name}, {kind.replace('_', ' ')}: {_named(tally)}"] if tally.rows else []
    if ledger.duplicated.rows:
        told.append(f"in training and in validation: {_named(ledger.duplicated)}")
    if ledger.unlike_serving.rows:
        told.append(
            "learnt after another context than the prompt that serving sends, for so the chat template has it: "
            + _named(ledger.unlike_serving)
        )
    if ledger.train.read and not ledger.validation.read:
        told.append("no row is held out: all rows are alike or `validation` is 0, so nothing measures the result")
    if ledger.plain_template:
        told.append("The model has no chat template of its own; whet's plain one is used, and saved with the result.")
    return told


def _tally(places: Iterable[str]) -> Tally:
    tally = Tally()
    for place in places:
        tally.add(place)
    return tally


def _tally_tree(name: str, tally: Tally) -> dict[str, Any]:
    return {name: tally.rows, **({f"{name}_first": tally.first} if tally.rows else {})}


def _side_tree(side: Side) -> dict[str, Any]:
    tree: dict[str, Any] = {"read": side.read, "kept": side.kept, "sequences": side.sequences}
    for name in ("split", "cut", "dropped", "nothing_to_learn"):
        tree |= _tally_tree(name, getattr(side, name))
    return {**tree, "tokens": side.tokens, "target_tokens": side.target_tokens, "lengths": side.lengths}
