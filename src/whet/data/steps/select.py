"""`select`: the rows that are most like a few target examples.

By n-grams as DSIR does it (Xie et al. 2023, Data Selection for Language Models via Importance Resampling, arXiv
2302.03169), or by the embeddings of a model. The ledger tells how far the choice moved towards the target.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import orjson
import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from whet.data.curation.contract import Decision, Record, Rows, SetStep
from whet.data.curation.texts import joined
from whet.data.steps.ngrams import BUCKETS, counted, ngrams, pieces
from whet.errors import RecipeError, RowError
from whet.recipe.part import Part

ENOUGH = 50
"""With so many target rows, every fifth is held out to measure the choice."""
FLOOR = 1e-8
"""What no probability is below, as in the authors' code."""
AT_ONCE = 256
"""Rows that are embedded together."""


class SelectSettings(Part):
    """Towards what, by what, and how many."""

    target: Annotated[list[str], Field(min_length=1)]
    """Files of rows like those that are wanted. A few do; more say better what is meant."""
    keep: Annotated[float, Field(gt=0, le=1)] | None = None
    """The share of rows that stay."""
    rows: Annotated[int, Field(ge=1)] | None = None
    """Or their number."""
    by: Literal["ngrams", "embedding"] = "ngrams"
    """DSIR's hashed unigrams and bigrams, or the cosine of a model's embeddings."""
    temperature: Annotated[float, Field(ge=0)] | None = None
    """Rows are drawn in proportion to exp(score / temperature); 0: the highest, no draw. Without one, 1 by n-grams, as
    in the paper, and 0 by embedding, whose cosines lie close together."""
    smoothing: Annotated[float, Field(ge=0)] = float(BUCKETS)
    """So many n-grams, as raw rows have them, are added to the target's: what a few examples do not show is not ruled
    out. The default is one a bucket; 0 is the paper's."""
    nearest: bool = False
    """By embedding: to the nearest target row, not to their mean."""
    importance: bool = False
    """Write the row's log importance weight (by embedding: its cosine) into the column `importance`."""

    @field_validator("target", mode="before")
    @classmethod
    def _several(cls, target: Any) -> Any:
        return [target] if isinstance(target, str) else target

    @model_validator(mode="after")
    def _one_size(self) -> SelectSettings:
        if (self.keep is None) == (self.rows is None):
            raise ValueError("give `keep`, a share, or `rows`, a number")
        return self


class Select(SetStep):
    """Choose rows for a target."""

    settings = SelectSettings

    def schema(self) -> pa.Schema:
        """First, the n-grams of a batch, in its first row; then what a row weighs."""
        if self.set.by == "embedding":
            return pa.schema([])
        if self.state is None:
            return pa.schema([("counts", pa.list_(pa.int64()))])
        return pa.schema([("log_weight", pa.float64())])

    def features(self, records: Sequence[Record]) -> dict[str, Any]:
        texts = [joined(record.row, self.context.columns) for record in records]
        if self.state is None:
            return {"counts": [counted(texts), *[None] * (len(records) - 1)]}
        return {"log_weight": log_weights(texts, self.state)}

    def learn(self, features: pa.Table | None, rows: Rows) -> Any:
        if features is None or self.state is not None:
            return None
        self.raw = np.zeros(BUCKETS, np.int64)
        for counts in features["counts"].drop_null():
            self.raw += counts.values.to_numpy()
        shown, held_out = held_apart(list(_target_texts(self.set.target, self.context.columns)))
        self.target, self.held_out = counted(shown), counted(held_out or shown)
        self.of_target = {"rows": len(shown), "held out": len(held_out)}
        if not self.target.sum():
            raise RowError("the target's rows have no text", where=", ".join(self.set.target), do="name its `columns`")
        return log_ratios(self.target, self.raw, self.set.smoothing)

    def decide(self, features: pa.Table, rows: Rows) -> Decision:
        size = self.set.rows or max(round(self.set.keep * rows.count), 1)
        by_ngrams = self.set.by == "ngrams"
        scores = features["log_weight"].to_numpy() if by_ngrams else self._cosines(rows)
        temperature = float(by_ngrams) if self.set.temperature is None else self.set.temperature
        keep = np.zeros(rows.count, bool)
        keep[chosen(scores, size, temperature, self.context.draw("select"))] = True
        notes = self._moved(scores / (temperature or 1), keep, rows) if by_ngrams else _nearer(scores, keep)
        why = {int(index): ("less like the target", "") for index in np.flatnonzero(~keep)}
        columns = {}
        if self.set.importance:
            columns = {int(index): {"importance": round(float(scores[index]), 4)} for index in np.flatnonzero(keep)}
            why |= dict.fromkeys(columns, ("weighed", ""))
        return Decision(keep, why, columns, notes=notes)

    def _moved(self, weights: np.ndarray, keep: np.ndarray, rows: Rows) -> dict[str, Any]:
        """How far the choice moved; `weights` are logs, as they were drawn by."""
        of_chosen = np.zeros(BUCKETS, np.int64)
        records = rows.records(np.flatnonzero(keep).tolist())
        while batch := list(islice(records, AT_ONCE)):
            of_chosen += counted([joined(record.row, self.context.columns) for record in batch])
        before, after = divergence(self.held_out, self.raw), divergence(self.held_out, of_chosen)
        return {
            "target": self.of_target | {"n-grams": int(self.target.sum())},
            "KL reduction": {
                "nats an n-gram": round(before - after, 4), "target from raw": round(before, 4),
                "target from chosen": round(after, 4),
                "measured on": "held-out target rows" if self.of_target["held out"] else "the target rows themselves",
            },
            "effective rows": {
                "raw": round(effective_size(weights), 1), "chosen": round(effective_size(weights[keep]), 1)
            },
        }  # fmt: skip

    def _cosines(self, rows: Rows) -> np.ndarray:
        """The cosine of each row to the target [rows]."""
        embed = self.context.services.get("embed")
        if embed is None:
            raise RecipeError(
                "select by embedding needs a model, and none was lent", where="select.by",
                do="give --embed MODEL; from Python, embed=function of texts -> array [texts, dimensions]; "
                "or leave `by` out: n-grams need no model",
            )  # fmt: skip

        def embedded(texts: Iterator[str]) -> Iterator[np.ndarray]:
            while batch := list(islice(texts, AT_ONCE)):
                found = np.asarray(embed(batch), np.float32)
                if found.ndim != 2 or len(found) != len(batch):
                    what = f"gave an array of {found.shape} for {len(batch)} texts"
                    raise RecipeError(what, where="the service `embed`", do="it is to give [texts, dimensions]")
                yield found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)

        target_TD = np.concatenate(list(embedded(_target_texts(self.set.target, self.context.columns))))
        if not self.set.nearest:
            mean_D = target_TD.mean(axis=0)
            target_TD = (mean_D / max(float(np.linalg.norm(mean_D)), 1e-12))[None]
        texts = (joined(record.row, self.context.columns) for record in rows.records())
        return np.concatenate([(batch @ target_TD.T).max(axis=1) for batch in embedded(texts)])


def _target_texts(paths: list[str], columns: tuple[str, ...]) -> Iterator[str]:
    from whet.data.curation.settings import Curation
    from whet.data.curation.source import read_files

    with tempfile.TemporaryDirectory(prefix="whet-") as folder:
        settings = Curation(steps=[{"select": {}}])
        stage, _ = read_files(paths, settings, Path(folder) / "target", lambda *_: None, lambda _: None)
        for _, _, row in stage.lines():
            yield joined(orjson.loads(row), columns)


def held_apart(texts: list[str]) -> tuple[list[str], list[str]]:
    """(those that say what is wanted, those that measure the choice): every fifth, where there are enough of them."""
    if len(texts) < ENOUGH:
        return texts, []
    return [text for number, text in enumerate(texts) if number % 5 != 4], texts[4::5]


def log_ratios(target: np.ndarray, raw: np.ndarray, smoothing: float) -> np.ndarray:
    """log p(n-gram | target) - log p(n-gram | raw), by bucket, from counts.

    The target's counts are smoothed by Dirichlet's prior around the raw distribution (Zhai and Lafferty 2001): an
    n-gram that no example shows is then a little rarer in the target, and not impossible.
    """
    raw_probs = raw / max(raw.sum(), 1)
    target_probs = (target + smoothing * raw_probs) / (target.sum() + smoothing)
    return np.asarray(np.log(target_probs + FLOOR) - np.log(raw_probs + FLOOR))


def log_weights(texts: Sequence[str], ratios: np.ndarray) -> np.ndarray:
    """The log importance weight of each text: the sum of its n-grams' ratios."""
    weights: list[np.ndarray] = [np.zeros(0)]
    for piece in pieces(texts):
        buckets, numbers = ngrams(texts[piece], len(ratios))
        weights.append(np.bincount(numbers, weights=ratios[buckets], minlength=piece.stop - piece.start))
    return np.concatenate(weights)


def chosen(scores: np.ndarray, size: int, temperature: float, draw: np.random.Generator) -> np.ndarray:
    """The numbers of `size` rows, drawn without replacement in proportion to exp(score / temperature): the highest
    after Gumbel noise is added (Kool et al. 2019, arXiv 1903.06059). At temperature 0 the highest as they are."""
    keys = scores if temperature == 0 else scores / temperature + draw.gumbel(size=len(scores))
    return np.sort(np.argsort(-keys, kind="stable")[:size])


def divergence(target: np.ndarray, other: np.ndarray) -> float:
    """KL(target || other) in nats an n-gram, of counts by bucket; half a count is added to each of the other's."""
    probs = target / target.sum()
    there = probs > 0
    of_other = (other + 0.5) / (other.sum() + 0.5 * len(other))
    return float(np.sum(probs[there] * np.log(probs[there] / of_other[there])))


def effective_size(log_weights: np.ndarray) -> float:
    """Kish's: (sum w)^2 / sum w^2. How many rows of equal weight would tell as much; near 1, one row outweighs all."""
    weights = np.exp(log_weights - log_weights.max())
    return float(weights.sum() ** 2 / (weights**2).sum())


def _nearer(cosines: np.ndarray, keep: np.ndarray) -> dict[str, Any]:
    return {"mean cosine": {"raw": round(float(cosines.mean()), 4), "chosen": round(float(cosines[keep].mean()), 4)}}
