"""A mean over all items from the values of a few, which were drawn with known and unequal chances.

Values are most useful where predictions leave them in doubt, so such items are drawn more often. Each drawn value then
counts by the inverse of its chance, which makes the estimate right whatever the predictions are worth; they only make
it more precise.

Sources: Horvitz and Thompson (1952) for the estimate; Hartley and Rao (1962) for drawing from a random order; Zrnic and
Candès (2024), Active statistical inference (arXiv 2403.03208), for chances by doubt and predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student_t

from sizewise.stats.inference import LEVEL, MIN_CLUSTERS, FloatArray, group_clusters

MIN_DOUBT = 0.25
"""Doubt that an item has at least, relative to the mean: predictions may be wrong where they look sure."""
UNSEEN = 1.85
"""Values that may differ unseen: the standard error is at least this many values of n documents. If none differs, 3.7
of n aren't excluded at 95 %, since (1 - 3.7 / n) ** n is 2.5 %, and Student's t reaches two standard errors."""


class DrawnMean(NamedTuple):
    """A mean over all items; its interval is infinite with values of too few documents."""

    value: float
    ci_low: float
    ci_high: float
    """Ends of the 95% interval."""
    p: float
    """Two-sided p-value that the mean is 0."""
    predicted: bool
    """Whether predictions make the estimate more precise, and are used."""


def chances_by_doubt(doubt: FloatArray, count: int) -> FloatArray:
    """Compute chances proportional to doubt, (items,), that sum to `count`; none is above 1.

    Args:
        doubt: (items,) how uncertain the value of each item is, not negative.
        count: expected number of drawn items.
    """
    size = len(doubt)
    if count >= size:
        return np.ones(size)
    floor = MIN_DOUBT * float(doubt.mean())
    weights = np.maximum(doubt, floor) if floor > 0 else np.ones(size)
    certain = np.zeros(size, dtype=bool)
    while True:
        chances = np.where(certain, 1.0, weights * (count - certain.sum()) / weights[~certain].sum())
        above = (chances > 1) & ~certain
        if not above.any():
            return chances
        certain |= above


def draw(chances: FloatArray, seed: int) -> npt.NDArray[np.bool_]:
    """Draw items, each with its chance, from a random order; their number is the sum of the chances.

    Args:
        chances: (items,) from 0 to 1.
        seed: seed of the order.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(chances))
    ends = np.cumsum(chances[order]) + rng.random()
    drawn = np.zeros(len(chances), dtype=bool)
    drawn[order] = np.floor(ends) > np.floor(np.concatenate([[ends[0] - chances[order[0]]], ends[:-1]]))
    return drawn


def drawn_mean(values: FloatArray, predictions: FloatArray, chances: FloatArray, documents: Sequence[str]) -> DrawnMean:
    """Estimate the mean over all items.

    Args:
        values: (items,) value of each drawn item; NaN for the others.
        predictions: (items,) prediction of each value, made without the values.
        chances: (items,) chance with which each item was drawn, above 0.
        documents: source document of each item; the values of one document may be alike.
    """
    known = np.isfinite(values)
    clusters = group_clusters(list(documents))[0]
    drawn = len(np.unique(clusters[known]))
    seen = np.where(known, values, 0.0)
    found = [_estimate(seen, weight * predictions, known / chances, clusters) for weight in (0.0, 1.0)]
    predicted = found[1][1] < found[0][1]
    value, error = found[int(predicted)]
    if drawn < MIN_CLUSTERS:
        return DrawnMean(value, -np.inf, np.inf, float("nan"), predicted)
    error = max(error, UNSEEN / drawn)
    reach = float(student_t.ppf(1 - LEVEL / 2, drawn - 1)) * error
    p = 2 * float(student_t.sf(abs(value) / error, drawn - 1))
    return DrawnMean(value, value - reach, value + reach, p, predicted)


def _estimate(
    values: FloatArray, predictions: FloatArray, weights: FloatArray, clusters: npt.NDArray[np.int64]
) -> tuple[float, float]:
    """Return the mean and its standard error over documents."""
    parts = predictions + weights * (values - predictions)
    value = float(parts.mean())
    sums = np.bincount(clusters, weights=parts - value)
    count = len(sums)
    return value, sqrt(count / max(1, count - 1) * float((sums**2).sum())) / len(parts)
