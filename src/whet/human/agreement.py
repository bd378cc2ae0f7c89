"""How far judges agree beyond chance.

Krippendorff's alpha    Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability"
                        (https://repository.upenn.edu/asc_papers/43); any number of judges, gaps allowed
                        (written out here: the package of that name is under the GPL)
Cohen's kappa           Cohen 1960, "A coefficient of agreement for nominal scales"; two judges
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from whet.evaluate.measure import Interval, resampled


def coincidences(values_JU: np.ndarray, values: Sequence[float]) -> np.ndarray:
    """Coincidences [U, V, V] of `values` in each unit, over all ordered pairs of judges who saw it; each unit of m
    judges weighs m in all. `values_JU` [judges, units], NaN where there is none."""
    counts_UV = np.stack([(values_JU == value).sum(0) for value in values], axis=1).astype(float)
    judges_U = counts_UV.sum(1)
    pairs_UVV = counts_UV[:, :, None] * counts_UV[:, None, :] - counts_UV[:, :, None] * np.eye(len(values))
    pairs_UVV[judges_U < 2] = 0
    return np.asarray(pairs_UVV / np.maximum(judges_U - 1, 1)[:, None, None])


def alpha(coincidences_UVV: np.ndarray, values: Sequence[float], level: str = "nominal") -> float:
    """1 - observed / expected disagreement. `level` is nominal, ordinal or interval. NaN where no unit has two values,
    or all values are the same, so that nothing could have differed."""
    o_VV = coincidences_UVV.sum(0)
    return float(_alpha(o_VV[None], values, level)[0])


def alpha_interval(
    values_JU: np.ndarray, values: Sequence[float], level: str = "nominal", seed: int = 0
) -> Interval | None:
    """Alpha with its 95 % percentile bootstrap interval over units. None where it is not defined."""
    found_UVV = coincidences(values_JU, values)
    value = alpha(found_UVV, values, level)
    if np.isnan(value):
        return None
    units, size = len(found_UVV), len(values)
    drawn_B = _alpha(resampled(found_UVV.reshape(units, -1), seed).reshape(-1, size, size), values, level)
    low, high = np.nanquantile(drawn_B, [0.025, 0.975])
    return Interval(value, float(low), float(high))


def _alpha(o_BVV: np.ndarray, values: Sequence[float], level: str) -> np.ndarray:
    n_BV = o_BVV.sum(2)
    n_B = n_BV.sum(1)
    d_BVV = _differences(n_BV, values, level)
    observed_B = (o_BVV * d_BVV).sum((1, 2))
    expected_B = (n_BV[:, :, None] * n_BV[:, None, :] * d_BVV).sum((1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(1 - (n_B - 1) * observed_B / expected_B)


def _differences(n_BV: np.ndarray, values: Sequence[float], level: str) -> np.ndarray:
    """The squared difference [B, V, V] of two values. Ordinal: by how many values lie between, ends counted half."""
    size = len(values)
    if level == "nominal":
        return np.broadcast_to(1 - np.eye(size), (len(n_BV), size, size))
    if level == "interval":
        at = np.asarray(values, float)
        return np.broadcast_to((at[:, None] - at) ** 2, (len(n_BV), size, size))
    middle_BV = np.cumsum(n_BV, axis=1) - n_BV / 2
    return np.asarray((middle_BV[:, :, None] - middle_BV[:, None, :]) ** 2)


def kappa(a: Sequence[object], b: Sequence[object]) -> float:
    """Of two judges' values for the same units. NaN without units, and where both always said the same one thing."""
    if not a:
        return float("nan")
    kinds = set(a) | set(b)
    agreed = sum(x == y for x, y in zip(a, b, strict=True)) / len(a)
    chance = sum(a.count(kind) * b.count(kind) for kind in kinds) / len(a) ** 2
    return float("nan") if chance == 1 else (agreed - chance) / (1 - chance)
