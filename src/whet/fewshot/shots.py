"""Which rows a few-shot trial sees: k of each label, drawn by a seed; and the test rows, which none of them is.

The k rows are all there is: those that decide when to stop are among them (true few-shot learning, Perez et al. 2021,
arXiv 2105.11447). Draws of one seed are nested: its 8 rows are the first of its 16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from whet.errors import RecipeError, RowError
from whet.evaluate.likelihood import answered_by
from whet.evaluate.metrics.answers import as_label
from whet.evaluate.subject import reference_of
from whet.incontext.rows import Labelled, without
from whet.rows import Example

MOST_LABELS = 20
STOP_SHARE = 4
"""One in so many of the k rows decides when to stop; at least one of each label."""


@dataclass(frozen=True)
class Draw:
    """Rows to learn from, in the order of the seed, and those by which training is stopped."""

    learn: list[Example]
    stop: list[Example]

    @property
    def rows(self) -> list[Example]:
        return [*self.learn, *self.stop]


def labelled(examples: Sequence[Example], verbalizers: dict[str, str]) -> Labelled:
    """Rows whose answers are labels. A verbalizer (Schick and Schütze 2021, arXiv 2001.07676) is the word that stands
    for a label. Raises RowError where the answers are no labels."""
    written: dict[str, str] = {}
    for example in examples:
        label = str(reference_of(example)) if example.shape == "conversation" else ""
        if not as_label(label):
            raise RowError("no label here", where=example.place, do="each row needs a prompt and a label as its answer")
        written.setdefault(as_label(label), label)
    said = {as_label(label): word for label, word in verbalizers.items()}
    if strange := [label for label in verbalizers if as_label(label) not in written]:
        raise RecipeError(f"no row is labelled {strange[0]!r}", where="verbalizers", do=", ".join(written.values()))
    names = sorted(written)
    labels = [said.get(name, written[name]) for name in names]
    if not 2 <= len(labels) <= MOST_LABELS or len(set(labels)) < len(labels):
        raise RowError(
            f"{len(set(labels))} different answers in {len(examples):,} rows",
            do=f"few-shot wants 2 to {MOST_LABELS} labels, each said in its own way",
        )
    answers = [names.index(as_label(str(reference_of(example)))) for example in examples]
    asked = [answered_by(example, labels[n]) for example, n in zip(examples, answers, strict=True)]
    return Labelled(asked, answers, labels)


def divide(rows: Labelled, test: int, seed: int) -> tuple[Labelled, Labelled]:
    """(pool, test): `test` rows drawn at random, no prompt of which is in the pool."""
    if test >= len(rows.examples):
        raise RecipeError(f"{test:,} test rows of {len(rows.examples):,}", where="test", do="leave some to learn from")
    order = np.random.default_rng(seed).permutation(len(rows.examples))
    tested = rows.take(sorted(map(int, order[:test])))
    pool, _ = without(rows.take(sorted(map(int, order[test:]))), tested.examples)
    return pool, tested


def draw(pool: Labelled, k: int, seed: int) -> Draw:
    """`k` rows of each label, a quarter of them for stopping. RowError where a label has fewer."""
    random = np.random.default_rng(seed)
    learn: list[int] = []
    stop: list[int] = []
    for number, label in enumerate(pool.labels):
        found = [i for i, answer in enumerate(pool.answers) if answer == number]
        if len(found) < k:
            raise RowError(f"{len(found)} rows are labelled {label!r}, and k is {k}", do="take a smaller --k")
        chosen = [found[int(i)] for i in random.permutation(len(found))[:k]]
        kept = max(1, k // STOP_SHARE) if k > 1 else 0
        stop += chosen[:kept]
        learn += chosen[kept:]
    random.shuffle(learn)
    return Draw([pool.examples[i] for i in learn], [pool.examples[i] for i in stop])
