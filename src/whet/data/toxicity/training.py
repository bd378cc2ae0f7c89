"""Labelled rows -> a classifier with its card. The same rows, settings and seed give the same weights, bit for bit."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from whet.data.mentions.compare import wilson
from whet.data.mentions.find import find_mentions
from whet.data.sources import tables
from whet.data.toxicity import classifier as model
from whet.data.toxicity.card import card
from whet.data.toxicity.classifier import Classifier, ClassifierConfig
from whet.data.toxicity.measures import counted, measured, reliability
from whet.data.toxicity.ngrams import plain
from whet.data.words import sentences, words
from whet.errors import RecipeError, RowError, StorageError, did_you_mean

PENALTIES = (1e-4, 1e-5, 1e-6, 1e-7)
"""Of squared weights (l2); the one with the least log loss on the validation texts is taken."""
THRESHOLDS = (0.2, 0.3, 0.5, 0.7, 0.9)
FEW = 20
"""A group with fewer texts of a label has no rate worth a line in the card."""
NO, YES = {"0", "0.0", "false", "no"}, {"1", "1.0", "true", "yes"}


class Labelled(NamedTuple):
    """Texts, whether each is toxic (0 or 1 [texts]), how many rows had no text or label, the values of a column."""

    texts: list[str]
    labels: np.ndarray
    skipped: int
    by: list[str]


@dataclass
class Trained:
    """What came of it: the classifier, the penalty chosen, sizes of the splits, what was measured held out."""

    classifier: Classifier
    penalty: float
    sizes: dict[str, int]
    figures: dict[str, Any]
    thresholds: list[tuple[float, Any, Any, float]]
    bins: list[tuple[float, float, int]]
    groups: list[tuple[str, int, int, Any, Any]] = field(default_factory=list)


def train_classifier(
    paths: Sequence[str], text: str, label: str, output: str | Path, *,
    toxic: Sequence[str] = (), name: str = "toxic", licence: str = "", seed: int = 0,
    told: Callable[[str], None] = lambda line: None,
) -> Trained:  # fmt: skip
    """Train on rows of files and write the folder `output`: config.json, model.safetensors, README.md (the card).

    `text` and `label` are columns; `toxic` the labels that count as toxic (none: labels are 0 and 1). `told` is
    called with what is being done. Raises RowError, RecipeError or StorageError; then nothing is written.
    """
    out = Path(output)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StorageError("is there already", where=str(out), do="name a new folder")
    told("reading")
    rows = read_labelled(paths, text, label, toxic)
    trained = trained_on(rows, name, seed, told)
    page = card(trained, {"rows": ", ".join(paths), "text": text, "label": label, "toxic": ", ".join(toxic) or "1",
                          "licence": licence, "seed": str(seed), "skipped": str(rows.skipped),
                          "content": _content(rows)})  # fmt: skip
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".whet-", dir=out.parent))
    except OSError as error:
        raise StorageError(f"cannot write: {error.strerror}", where=str(out)) from error
    try:
        trained.classifier.save(work)
        (work / "README.md").write_text(page, encoding="utf-8")
        work.chmod(0o755)
        os.replace(work, out)  # onto a folder that is not there, or empty
    except OSError as error:
        raise StorageError(f"cannot write: {error.strerror}", where=str(out)) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return trained


def read_labelled(
    paths: Sequence[str], text: str, label: str, toxic: Sequence[str] = (), by: str | None = None
) -> Labelled:
    """The texts and labels of files, and the values of the column `by`.

    Raises RowError for a column, RecipeError for a label that is not there.
    """
    texts, raw, values_by, skipped = [], [], [], 0
    for path in paths:
        for file, rows in tables(path, "train"):
            _check_columns(file, {column for _, row in rows for column in row}, text, label, by)
            for _, row in rows:
                value, of_row = row.get(text), row.get(label)
                if not isinstance(value, str) or not value.strip() or of_row in (None, ""):
                    skipped += 1
                    continue
                texts.append(value)
                raw.append(str(of_row).strip())
                values_by.append(str(row.get(by)) if by else "")
    wanted = _positives(set(raw), {value.strip() for value in toxic}, label)
    return Labelled(texts, np.array([value in wanted for value in raw], dtype=np.float64), skipped, values_by)


def _check_columns(file: str, known: set[str], *asked: str | None) -> None:
    for column in filter(None, asked):
        if column not in known:
            do = f"columns are: {', '.join(sorted(known))}"
            raise RowError(f"no column {column!r}.{did_you_mean(column, known)}", where=file, do=do)


def _positives(values: set[str], named: set[str], label: str) -> set[str]:
    """The labels that count as toxic: those named, which must be there; of 0 and 1, the one."""
    few = ", ".join(sorted(values)[:8])
    if absent := named - values:
        raise RecipeError(f"no row has the label {min(absent)!r}", where=label, do=f"labels are: {few}")
    if not named and not {value.lower() for value in values} <= NO | YES:
        raise RecipeError(f"labels are {few}", where=label, do="say which are toxic: --toxic VALUE,VALUE")
    return named or {value for value in values if value.lower() in YES}


def split_of(text: str, seed: int) -> str:
    """train (8 of 10), validation (1) or test (1), by a hash of the text: equal texts are never on two sides."""
    spelled = f"{seed}\0{plain(text)}".encode()
    tenth = int.from_bytes(hashlib.blake2b(spelled, digest_size=8).digest(), "little") % 10
    return "test" if tenth == 0 else "validation" if tenth == 1 else "train"


def trained_on(
    rows: Labelled, name: str = "toxic", seed: int = 0, told: Callable[[str], None] = lambda line: None
) -> Trained:
    """Split, choose the penalty, train, calibrate on validation texts, measure on held-out ones."""
    splits = np.array([split_of(text, seed) for text in rows.texts])
    texts = {side: [t for t, s in zip(rows.texts, splits, strict=True) if s == side] for side in SIDES}
    labels = {side: rows.labels[splits == side] for side in SIDES}
    for side in SIDES:
        if len(set(labels[side].tolist())) < 2:
            raise RowError(f"only one kind of label among the {len(labels[side]):,} {side} texts",
                           do="more labelled rows are needed, of both kinds; hundreds at least")  # fmt: skip
    longest = int(np.quantile([len(text) for text in texts["train"]], 0.95))
    config = ClassifierConfig(name=name, window=max(longest, 100))
    grams = {side: config.grams(texts[side]) for side in SIDES}
    best: tuple[float, float, np.ndarray, float] | None = None
    start: np.ndarray | None = None
    for penalty in PENALTIES:
        told(f"training on {len(texts['train']):,} texts, penalty {penalty:g}")
        weight, bias = model.fit(grams["train"], labels["train"], 1 << config.log2_buckets, penalty, start)
        start = np.append(weight, bias)
        loss = model.log_loss(labels["validation"], grams["validation"].times(weight) + bias)
        if best is None or loss < best[0]:
            best = loss, penalty, weight, bias
    assert best is not None
    _, penalty, weight, config.bias = best
    found = Classifier(config, weight.astype(np.float32))  # as it is saved
    config.scale, config.shift = model.calibration(found.logits(grams["validation"]), labels["validation"])
    told("measuring")
    scores, true = found.toxicity(texts["test"]), labels["test"]
    thresholds = []
    for threshold in THRESHOLDS:
        counts = counted(true, scores, threshold)
        thresholds.append((threshold, counts.precision, counts.recall, counts.f1))
    sizes = {side: len(texts[side]) for side in SIDES}
    return Trained(found, penalty, sizes, measured(true, scores, 0.5), thresholds, reliability(true, scores),
                   errors_by_group(texts["test"], true, scores))  # fmt: skip


SIDES = ("train", "validation", "test")


def groups_in(text: str) -> set[str]:
    """The groups that a text names, pronouns left out."""
    spans = [words(text[start:stop], start) for start, stop in sentences(text)]
    return {mention.group for tokens in spans for mention in find_mentions(tokens, pronouns=False)}


def errors_by_group(
    texts: Sequence[str], labels: np.ndarray, scores: np.ndarray, threshold: float = 0.5
) -> list[tuple[str, int, int, Any, Any]]:
    """(group, texts, positives, false positive rate, false negative rate) of texts that name each group.

    Rates are Rate, or None for fewer than FEW texts of that label. The first line is all texts.
    """
    named = [groups_in(text) for text in texts]
    found = []
    for group in ["all", *sorted(set().union(*named))]:
        here = np.array([group == "all" or group in names for names in named])
        counts = counted(labels[here], scores[here], threshold)
        negatives, positives = counts.fp + counts.tn, counts.tp + counts.fn
        missed = 1 - np.array([counts.recall.value, *wilson(counts.tp, positives)[::-1]]) if positives else None
        found.append((
            group, int(here.sum()), positives,
            counts.false_positive_rate if negatives >= FEW else None,
            type(counts.recall)(*map(float, missed)) if missed is not None and positives >= FEW else None,
        ))  # fmt: skip
    return [line for line in found if line[3] is not None or line[4] is not None]


def _content(rows: Labelled) -> str:
    content = hashlib.blake2b(digest_size=16)
    for text, label in zip(rows.texts, rows.labels.tolist(), strict=True):
        content.update(orjson.dumps([text, label]))
    return content.hexdigest()
