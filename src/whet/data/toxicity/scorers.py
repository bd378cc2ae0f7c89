"""Who judges texts: the lexicon, or a classifier in a folder; and how well, on labelled rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from whet.data.toxicity.measures import Counted, counted, measured
from whet.errors import RowError

Scorer = Callable[[Sequence[str]], list[tuple[float, list[str]]]]
"""Texts -> (how toxic, 0 to 1; in what way) of each."""


def scorer(name: str, terms: str | None = None) -> Scorer:
    """The scorer of this name. Raises RecipeError for a file of terms, ModelError for a folder, that cannot be read."""
    if name == "lexicon":
        from whet.data.toxicity.lexicon import lexicon

        known = lexicon(terms)
        return lambda texts: [known.score(text) for text in texts]
    from whet.data.toxicity.classifier import load_classifier

    classifier = load_classifier(name)
    return lambda texts: [(float(p), [classifier.config.name]) for p in classifier.toxicity(texts)]


class Judged(NamedTuple):
    """How a scorer did: on all texts (see measures.measured), and its counts by value of a column."""

    figures: dict[str, Any]
    by: dict[str, Counted]


def judge(
    paths: Sequence[str], text: str, label: str, name: str = "lexicon", *, toxic: Sequence[str] = (),
    by: str | None = None, held_out: bool = False, seed: int = 0, threshold: float = 0.5,
) -> Judged:  # fmt: skip
    """Measure a scorer on labelled rows. `by` is a column, for counts by its value; or "group", by group named.

    `held_out` takes only the texts that `toxic-train` with this seed holds out. Raises as read_labelled does.
    """
    from whet.data.toxicity.training import groups_in, read_labelled, split_of

    rows = read_labelled(paths, text, label, toxic, by if by != "group" else None)
    here = [at for at, held in enumerate(rows.texts) if not held_out or split_of(held, seed) == "test"]
    if not here:
        raise RowError("no labelled texts", where=", ".join(paths))
    texts, labels = [rows.texts[at] for at in here], rows.labels[here]
    scores = np.array([score for score, _ in scorer(name)(texts)])
    of_value: dict[str, list[int]] = {}
    for number, at in enumerate(here):
        values = groups_in(rows.texts[at]) if by == "group" else [rows.by[at]] if by else []
        for value in values:
            of_value.setdefault(value, []).append(number)
    counts = {value: counted(labels[these], scores[these], threshold) for value, these in sorted(of_value.items())}
    return Judged(measured(labels, scores, threshold), counts)
