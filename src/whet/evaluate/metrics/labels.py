"""Labels: accuracy, macro-F1, confusion, and how far probabilities can be believed (calibration)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from whet.errors import RowError
from whet.evaluate.measure import Measured, mean_of
from whet.evaluate.metrics.answers import as_label
from whet.evaluate.metrics.references import references_of

MOST_LABELS = 200
BINS = 10
OTHER = "(other)"
"""What is predicted where the answer is none of the labels."""


def accuracy(completions: Sequence[str], columns: dict[str, list[Any]]) -> list[Measured]:
    """Whether the answer's label is the reference's; the label is found at the answer's beginning."""
    found, wanted, _ = _labels(completions, columns)
    values = [float(one == label) for one, label in zip(found, wanted, strict=True)]
    return [mean_of("accuracy", values, True, none_of_the_labels=found.count(OTHER))]


def macro_f1(completions: Sequence[str], columns: dict[str, list[Any]]) -> list[Measured]:
    """The mean of the labels' F1; the confusion matrix is in the notes."""
    found, wanted, names = _labels(completions, columns)
    measured = of_labels(found, wanted, names)
    measured.notes["none_of_the_labels"] = found.count(OTHER)
    return [measured]


def _labels(completions: Sequence[str], columns: dict[str, list[Any]]) -> tuple[list[str], list[str], list[str]]:
    """What is answered and what is right [rows], and the labels that there are."""
    references = [refs[0] for refs in references_of(columns)]
    names = label_names(references)
    return [label_in(text, names) for text in completions], [as_label(label) for label in references], names


def label_names(labels: Sequence[str]) -> list[str]:
    """The different labels, normalised, in order of name. Raises RowError where there are too many to be labels."""
    names = sorted({as_label(label) for label in labels})
    if len(names) > MOST_LABELS:
        raise RowError(
            f"the references have {len(names)} different values, which is more than labels have",
            do="measure free answers by exact_match, token_f1 or rouge",
        )
    return names


def label_in(text: str, names: Sequence[str]) -> str:
    """The label that an answer begins with (the longest, where one begins another); OTHER for none of them."""
    answer = as_label(text) + " "
    found = [name for name in names if answer.startswith(name + " ")]
    return max(found, key=len) if found else OTHER


def of_labels(predicted: Sequence[str], wanted: Sequence[str], names: Sequence[str]) -> Measured:
    """Macro-F1 over `names`; what is predicted beside them counts as wrong."""
    columns = [*names, OTHER]
    at = {name: number for number, name in enumerate(columns)}
    size = len(names)
    cells = [at[want] * (size + 1) + at.get(found, size) for found, want in zip(predicted, wanted, strict=True)]
    stats_RK = np.zeros((len(cells), size * (size + 1)))
    stats_RK[np.arange(len(cells)), cells] = 1

    def figure(sums: np.ndarray, rows: float) -> float:
        confusion = sums.reshape(size, size + 1)
        hits, wanted_sum, found_sum = confusion[:, :size].diagonal(), confusion.sum(1), confusion[:, :size].sum(0)
        there = (wanted_sum + found_sum) > 0
        return float((2 * hits[there] / (wanted_sum + found_sum)[there]).mean())

    right = np.array([float(found == want) for found, want in zip(predicted, wanted, strict=True)])
    confusion = stats_RK.sum(0).reshape(size, size + 1).astype(int).tolist()
    return Measured("macro_f1", stats_RK, figure, right, True, {"labels": columns, "confusion": confusion})


def calibration(probabilities_RC: Sequence[np.ndarray], wanted: Sequence[int]) -> Measured:
    """Expected calibration error (Guo et al. 2017, arXiv 1706.04599), 10 bins of equal width; the reliability curve is
    in the notes: mean confidence, accuracy and rows of each bin."""
    confidence_R = np.array([p.max() for p in probabilities_RC])
    right_R = np.array([float(p.argmax() == want) for p, want in zip(probabilities_RC, wanted, strict=True)])
    bin_R = np.minimum((confidence_R * BINS).astype(int), BINS - 1)
    stats_R3B = np.zeros((len(bin_R), 3, BINS))
    rows = np.arange(len(bin_R))
    for place, values in enumerate((np.ones(len(bin_R)), confidence_R, right_R)):
        stats_R3B[rows, place, bin_R] = values

    def figure(sums: np.ndarray, count: float) -> float:
        _, confidence, right = sums.reshape(3, BINS)
        return float(np.abs(confidence - right).sum() / count) if count else math.nan

    sizes, confidence, right = stats_R3B.sum(0)
    curve = [
        {"confidence": c / n, "accuracy": r / n, "rows": int(n)}
        for n, c, r in zip(sizes, confidence, right, strict=True) if n
    ]  # fmt: skip
    gap_R = np.abs(confidence_R - right_R)
    return Measured("ece", stats_R3B.reshape(len(bin_R), -1), figure, gap_R, False, {"reliability": curve})
