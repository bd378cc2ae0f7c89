"""A classifier of texts: logistic regression on hashed n-grams. A folder: config.json, model.safetensors, README.md."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, ValidationError

from whet.data.toxicity.ngrams import Grams, ngrams
from whet.data.words import sentences
from whet.errors import ModelError
from whet.recipe.part import Part

BATCH = 512
"""Texts hashed together: what bounds the memory of scoring."""


class ClassifierConfig(Part):
    """What a classifier needs beside its weights."""

    model_type: Literal["whet-toxicity-ngrams"] = "whet-toxicity-ngrams"
    name: str = "toxic"
    """What a text is that it finds."""
    log2_buckets: Annotated[int, Field(ge=8, le=24)] = 18
    min_chars: Annotated[int, Field(ge=1, le=8)] = 2
    max_chars: Annotated[int, Field(ge=1, le=8)] = 5
    words: Annotated[int, Field(ge=0, le=4)] = 2
    window: Annotated[int, Field(ge=50)] = 300
    """Longer texts are scored in pieces of so many characters; the worst counts."""
    bias: float = 0.0
    scale: float = 1.0
    shift: float = 0.0
    """Calibration: the probability is sigmoid(scale * logit + shift) (Platt 1999)."""

    def grams(self, texts: Sequence[str]) -> Grams:
        """The n-grams of texts."""
        return ngrams(texts, 1 << self.log2_buckets, (self.min_chars, self.max_chars), self.words)


class Classifier:
    """A config and `weight` [buckets]."""

    def __init__(self, config: ClassifierConfig, weight: np.ndarray) -> None:
        self.config, self.weight = config, weight.astype(np.float64)

    def logits(self, grams: Grams) -> np.ndarray:
        """One a text, not calibrated."""
        return grams.times(self.weight) + self.config.bias

    def toxicity(self, texts: Sequence[str]) -> np.ndarray:
        """The calibrated probability of each text: of its worst piece where it is longer than a window. 0 if empty."""
        pieces, owner = [], []
        for number, text in enumerate(texts):
            cut = windows(text, self.config.window)
            pieces += cut
            owner += [number] * len(cut)
        worst = np.zeros(len(texts))
        for start in range(0, len(pieces), BATCH):
            logits = self.logits(self.config.grams(pieces[start : start + BATCH]))
            np.maximum.at(worst, owner[start : start + BATCH], sigmoid(self.config.scale * logits + self.config.shift))
        return worst

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors."""
        from safetensors.numpy import save_file

        (folder / "config.json").write_text(self.config.model_dump_json(indent=2) + "\n", encoding="utf-8")
        save_file({"weight": self.weight.astype(np.float32)}, folder / "model.safetensors")


@cache
def load_classifier(path: str) -> Classifier:
    """The classifier in a folder, read once a process. Raises ModelError where it is none."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    do = "name a folder made by `whet data toxic-train`, or `lexicon`"
    folder = Path(path)
    try:
        config = ClassifierConfig.model_validate(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        weight = load_file(folder / "model.safetensors")["weight"]
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        what = "its config.json is none" if isinstance(error, ValidationError) else str(error)
        raise ModelError(f"no classifier of texts: {what}", where=path, do=do) from error
    if weight.shape != (1 << config.log2_buckets,) or not np.isfinite(weight).all():
        raise ModelError(f"weight is {weight.dtype}{list(weight.shape)}, config.json says 2^{config.log2_buckets}",
                         where=path, do=do)  # fmt: skip
    return Classifier(config, weight)


def windows(text: str, size: int) -> list[str]:
    """A text in pieces of at most `size` characters, cut between sentences if it can be; none for a blank text."""
    text = text.strip()
    if len(text) <= size:
        return [text] if text else []
    pieces, begin = [], 0
    for start, stop in sentences(text):
        if stop - begin > size and start > begin:
            pieces.append(text[begin:start])
            begin = start
        while stop - begin > size:  # a sentence longer than a window: cut at a blank
            cut = text.rfind(" ", begin + size // 2, begin + size)
            cut = begin + size if cut < 0 else cut
            pieces.append(text[begin:cut])
            begin = cut
    pieces.append(text[begin:])
    return [piece for piece in pieces if piece.strip()]


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)) without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))


def log_loss(labels: np.ndarray, logits: np.ndarray) -> float:
    """The mean of -log p(label)."""
    return float(np.mean(np.logaddexp(0, logits) - labels * logits))


def fit(
    grams: Grams, labels: np.ndarray, buckets: int, l2: float, start: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """(weight [buckets], bias): the minimum of mean log loss + l2 / 2 |weight|^2. The bias is not drawn to zero.

    `start` [buckets + 1] is where the search begins: weight and bias for a neighbouring l2, say.
    """

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        weight, bias = x[:-1], x[-1]
        logits = grams.times(weight) + bias
        error = (sigmoid(logits) - labels) / len(labels)
        gradient = np.append(grams.transposed_times(error, buckets) + l2 * weight, error.sum())
        return log_loss(labels, logits) + l2 / 2 * float(weight @ weight), gradient

    x = minimum(objective, np.zeros(buckets + 1) if start is None else start)
    return x[:-1], float(x[-1])


def calibration(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """(scale, shift) of the logits that fit labels best, targets drawn in by one row (Platt 1999; Lin et al. 2007)."""
    positives = labels.sum()
    high, low = (positives + 1) / (positives + 2), 1 / (len(labels) - positives + 2)
    targets = np.where(labels > 0, high, low)

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        scaled = x[0] * logits + x[1]
        error = (sigmoid(scaled) - targets) / len(labels)
        return log_loss(targets, scaled), np.array([error @ logits, error.sum()])

    scale, shift = minimum(objective, np.array([1.0, 0.0]))
    return float(scale), float(shift)


Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]
"""x -> (value, gradient)."""


def minimum(objective: Objective, start: np.ndarray, tolerance: float = 1e-6, steps: int = 500) -> np.ndarray:
    """Where a smooth convex function is least, by L-BFGS with backtracking (Nocedal and Wright, algorithm 7.5).

    Ends when no component of the gradient is above `tolerance`, or no step lowers the value any more.
    """
    x, memory = start.copy(), 10
    value, gradient = objective(x)
    moves: list[tuple[np.ndarray, np.ndarray, float]] = []  # (s, y, 1 / s.y), oldest first
    for _ in range(steps):
        if np.abs(gradient).max() <= tolerance:
            break
        direction = -_inverse_hessian_times(gradient, moves)
        slope, length = float(direction @ gradient), 1.0
        while True:
            new = x + length * direction
            new_value, new_gradient = objective(new)
            if new_value <= value + 1e-4 * length * slope:
                break
            length /= 2
            if length < 1e-10:
                return x
        moved, bent = new - x, new_gradient - gradient
        if (curvature := float(moved @ bent)) > 0:
            moves = [*moves[1 - memory :], (moved, bent, 1 / curvature)]
        x, value, gradient = new, new_value, new_gradient
    return x


def _inverse_hessian_times(gradient: np.ndarray, moves: list[tuple[np.ndarray, np.ndarray, float]]) -> np.ndarray:
    result, steps = gradient.copy(), []
    for moved, bent, inverse in reversed(moves):
        step = inverse * float(moved @ result)
        result -= step * bent
        steps.append(step)
    if moves:
        _, bent, inverse = moves[-1]
        result /= inverse * float(bent @ bent)
    else:
        result /= max(1.0, float(np.abs(gradient).sum()))
    for (moved, bent, inverse), step in zip(moves, reversed(steps), strict=True):
        result += (step - inverse * float(bent @ result)) * moved
    return result
