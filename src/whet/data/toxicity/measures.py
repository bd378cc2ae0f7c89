"""How good a scorer is on labelled texts: rates with 95 % intervals, ranking, calibration."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from whet.data.mentions.compare import wilson

DRAWS = 500
"""Bootstrap samples behind the intervals of F1 and AUROC."""


class Rate(NamedTuple):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


class Counted(NamedTuple):
    """Right and wrong above and below a threshold."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def f1(self) -> float:
        return 2 * self.tp / max(2 * self.tp + self.fp + self.fn, 1)

    @property
    def precision(self) -> Rate:
        return rate(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> Rate:
        return rate(self.tp, self.tp + self.fn)

    @property
    def false_positive_rate(self) -> Rate:
        return rate(self.fp, self.fp + self.tn)


def rate(successes: int, trials: int) -> Rate:
    """A share with Wilson's interval; nan for no trials."""
    return Rate(successes / trials if trials else float("nan"), *wilson(successes, trials))


def counted(labels: np.ndarray, scores: np.ndarray, threshold: float) -> Counted:
    """`labels` are 0 or 1; a score of `threshold` or more is a positive."""
    found, true = scores >= threshold, labels > 0
    return Counted(
        int((found & true).sum()), int((found & ~true).sum()), int((~found & true).sum()), int((~found & ~true).sum())
    )


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """The chance that a positive scores above a negative, ties half (Mann and Whitney); nan with one class only."""
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    positives = int((labels > 0).sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return float("nan")
    return float((rank[labels > 0].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def bootstrapped(labels: np.ndarray, scores: np.ndarray, threshold: float, seed: int = 0) -> tuple[Rate, Rate]:
    """(F1, AUROC) with percentile intervals over resampled texts."""
    draw = np.random.default_rng(seed)
    f1s, areas = [], []
    for _ in range(DRAWS):
        chosen = draw.integers(0, len(labels), len(labels))
        f1s.append(counted(labels[chosen], scores[chosen], threshold).f1)
        areas.append(auroc(labels[chosen], scores[chosen]))
    return tuple(
        Rate(value, float(np.nanquantile(drawn, 0.025)), float(np.nanquantile(drawn, 0.975)))
        for value, drawn in ((counted(labels, scores, threshold).f1, f1s), (auroc(labels, scores), areas))
    )  # type: ignore[return-value]


def reliability(labels: np.ndarray, scores: np.ndarray, bins: int = 10) -> list[tuple[float, float, int]]:
    """(mean score, share of positives, texts) of each tenth of [0, 1] that holds texts."""
    tenth = np.minimum((scores * bins).astype(int), bins - 1)
    held = [tenth == number for number in range(bins)]
    return [(float(scores[b].mean()), float(labels[b].mean()), int(b.sum())) for b in held if b.any()]


def calibration_error(labels: np.ndarray, scores: np.ndarray) -> float:
    """The expected calibration error over ten bins of equal width (Naeini et al. 2015)."""
    bins = reliability(labels, scores)
    return sum(abs(score - share) * texts for score, share, texts in bins) / max(len(labels), 1)


def measured(labels: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, Any]:
    """Precision, recall, F1, false positive rate, AUROC (Rates); calibration error, Brier score; texts, positives."""
    counts = counted(labels, scores, threshold)
    f1, area = bootstrapped(labels, scores, threshold)
    return {
        "texts": len(labels), "positives": int(labels.sum()), "precision": counts.precision, "recall": counts.recall,
        "f1": f1, "false positive rate": counts.false_positive_rate, "auroc": area,
        "calibration error": calibration_error(labels, scores), "brier": float(np.mean((scores - labels) ** 2)),
    }  # fmt: skip
