"""Calibration of probabilities: reliability diagram, debiased calibration error, decomposition of the Brier score.

The plain expected calibration error is never zero: in small bins, chance alone separates the share of successes from
the mean probability. Here both the estimate and its interval invert one test. Along the observed pattern of gaps,
scaled from zero (perfect calibration) upwards, the estimate is the scale at which the plain error is as likely above as
below the observed one, and the interval holds the scales that aren't rejected. By Anderson's inequality the plain error
grows stochastically with the scale, so the inversion is unique. In simulations (benchmarks/fair_decisions.py) this had
less bias for calibrated probabilities than one step of the bootstrap (Kumar, Liang and Ma, 2019) and than monotone bins
(Roelofs et al., 2022).

Sources: Anderson (1955), The integral of a symmetric unimodal function; Kumar, Liang and Ma (2019), Verified
uncertainty calibration; Roelofs et al. (2022), Mitigating bias in calibration error estimation; Murphy (1973), A new
vector partition of the probability score; Ferro and Fricker (2012), A bias-corrected decomposition of the Brier score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from sizewise.stats.inference import (
    LEVEL,
    MIN_CLUSTERS,
    FloatArray,
    IntArray,
    Interval,
    estimate,
    group_clusters,
    sum_groups,
)

MAX_BINS = 15
CLUSTERS_PER_BIN = 20
DRAWS = 1_999
_SMALLEST_BIN = 0.25  # share of the usual size
_STEPS = 40
_FARTHEST = 2.0**20


class Bin(NamedTuple):
    """One bin of a reliability diagram."""

    lower: float
    """Smallest probability in the bin."""
    upper: float
    """Largest probability in the bin."""
    n: int
    confidence: float
    """Mean probability."""
    success: Interval
    """Share of successes."""


class CalibrationError(NamedTuple):
    """Expected calibration error, freed of the part that chance alone adds."""

    value: float
    ci_low: float
    """NaN with too few clusters, as the upper end and p."""
    ci_high: float
    plain: float
    """The same without the correction."""
    p: float
    """P-value of perfect calibration; below LEVEL / 2 exactly if the interval excludes zero."""
    bins: int


class Decomposition(NamedTuple):
    """Brier score and its parts: score = reliability - resolution + uncertainty, up to the spread within bins."""

    brier: Interval
    reliability: float
    """Part due to miscalibration, 0 for perfect calibration; bias-corrected, so that it may be slightly negative."""
    resolution: float
    """Part by which the score is better because probabilities separate cases; higher is better."""
    uncertainty: float
    """Score of always stating the overall shares."""


def equal_mass_bins(probabilities: FloatArray, count: int) -> IntArray:
    """Assign items to bins of about equal size; equal probabilities share a bin, alone if they are many.

    Returns:
        (items,) bin of each item, from 0 without gaps.
    """
    values, place, sizes = np.unique(probabilities, return_inverse=True, return_counts=True)
    target = len(probabilities) / count
    bins, current, filled, done = np.zeros(len(values), dtype=np.int64), 0, 0, 0
    for i, size in enumerate(sizes):
        crowded = size >= target and filled >= target * _SMALLEST_BIN
        if filled and (crowded or done + filled >= (current + 1) * target):
            current, done, filled = current + 1, done + filled, 0
        bins[i] = current
        filled += int(size)
    found: IntArray = bins[place]
    return found


def bin_count(clusters: int) -> int:
    """Return the number of bins for so many independent clusters."""
    return min(MAX_BINS, max(1, clusters // CLUSTERS_PER_BIN))


def reliability_bins(
    probabilities: FloatArray, successes: FloatArray, clusters: Sequence[str], count: int | None = None
) -> list[Bin]:
    """Compute the bins of a reliability diagram, with intervals by cluster.

    Args:
        probabilities: (items,) stated probability of success.
        successes: (items,) 1 for a success, else 0.
        clusters: cluster name of each item.
        count: number of bins; by default as many as the clusters allow.
    """
    if not len(probabilities):
        return []
    bins = equal_mass_bins(probabilities, count or bin_count(len(set(clusters))))
    names = np.asarray(clusters, dtype=object)
    found = []
    for number in range(int(bins.max()) + 1):
        chosen = bins == number
        stated = probabilities[chosen]
        stats = np.column_stack([successes[chosen], np.ones(len(stated))])
        share = estimate(stats, list(names[chosen]), lambda sums: sums[..., 0] / sums[..., 1], (0.0, 1.0))
        found.append(Bin(float(stated.min()), float(stated.max()), len(stated), float(stated.mean()), share))
    return found


def calibration_error(
    probabilities: FloatArray,
    successes: FloatArray,
    clusters: Sequence[str],
    *,
    count: int | None = None,
    seed: int = 0,
) -> CalibrationError:
    """Estimate the expected calibration error with its 95% interval, both without the bias of small bins.

    Args:
        probabilities: (items,) stated probability of success.
        successes: (items,) 1 for a success, else 0.
        clusters: cluster name of each item.
        count: number of bins of equal mass; by default as many as the clusters allow.
        seed: seed of the draws.
    """
    groups, independent = group_clusters(clusters)
    bins = equal_mass_bins(probabilities, count or bin_count(independent))
    gaps, covariance, measured = _gaps(probabilities, successes, bins, groups)
    observed = float(np.abs(gaps).sum())
    if independent < MIN_CLUSTERS:
        return CalibrationError(observed, np.nan, np.nan, observed, np.nan, len(gaps))
    noise = _noise(covariance, min(independent, int(groups.max()) + 1) - 1, seed)

    def share_above(scale: float) -> float:
        """Return how often the plain error is at least the observed one if the true gaps are the scaled ones."""
        drawn = np.abs(scale * gaps + noise).sum(axis=1)
        return float((1 + (drawn >= observed).sum()) / (1 + len(drawn)))

    p = share_above(0.0)
    lower, middle, upper = (_invert(share_above, share) for share in (LEVEL / 2, 0.5, 1 - LEVEL / 2))
    value = middle * observed
    # Fewer errors than stated leave nothing to invert; then the gaps' own spread bounds the error from above.
    spread = float(np.sign(gaps) @ measured @ np.sign(gaps))
    half = float(norm.isf(LEVEL / 2)) * max(0.0, spread) ** 0.5
    ci_high = max(upper * observed, observed + (half if middle == 0 else 0.0))
    return CalibrationError(value, lower * observed, ci_high, observed, p, len(gaps))


def _gaps(
    probabilities: FloatArray, successes: FloatArray, bins: IntArray, groups: IntArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Compute each bin's part of the mean of success minus probability, and their covariance by cluster.

    The covariance comes with and without a lower limit for bins in which every item succeeds.
    """
    count, items = int(bins.max()) + 1, len(probabilities)
    parts = np.zeros((items, count))
    parts[np.arange(items), bins] = successes - probabilities
    sums = sum_groups(parts, groups)
    if len(sums) < 2:  # one source document shows no spread
        return sums.sum(axis=0) / items, np.full((count, count), np.nan), np.full((count, count), np.nan)
    measured = np.atleast_2d(np.cov(sums, rowvar=False)) * len(sums) / items**2
    # Where every item of a bin succeeds, its spread is unknown rather than zero.
    stated = np.bincount(bins, weights=probabilities * (1 - probabilities), minlength=count) / items**2
    covariance = measured + np.diag(np.maximum(0.0, stated - np.diag(measured)))
    return sums.sum(axis=0) / items, covariance, measured


def _noise(covariance: FloatArray, df: int, seed: int) -> FloatArray:
    """Draw errors of the gaps from a multivariate t-distribution, (draws, bins)."""
    rng = np.random.default_rng(seed)
    values, vectors = np.linalg.eigh(covariance)
    drawn = rng.standard_normal((DRAWS, len(covariance))) * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    noise: FloatArray = drawn * np.sqrt(df / rng.chisquare(df, DRAWS))[:, None]
    return noise


def _invert(share_above: Callable[[float], float], share: float) -> float:
    """Find the scale at which a given share of the draws is above the observed value; 0 if more are there already."""
    if share_above(0.0) >= share:
        return 0.0
    nearest, farthest = 0.0, 1.0
    while share_above(farthest) < share and farthest < _FARTHEST:
        nearest, farthest = farthest, 2 * farthest
    for _ in range(_STEPS):
        middle = (nearest + farthest) / 2
        nearest, farthest = (middle, farthest) if share_above(middle) < share else (nearest, middle)
    return farthest


def decompose_brier(
    probabilities: FloatArray, labels: IntArray, clusters: Sequence[str], count: int | None = None
) -> Decomposition:
    """Decompose the Brier score, summed over the classes, into reliability, resolution and uncertainty.

    Args:
        probabilities: (items, classes) probabilities.
        labels: (items,) index of the correct class.
        clusters: cluster name of each item.
        count: number of bins of equal mass for each class; by default as many as the clusters allow.
    """
    items, classes = probabilities.shape
    hits = np.zeros_like(probabilities)
    hits[np.arange(items), labels] = 1.0
    scores = np.square(probabilities - hits).sum(axis=1)
    brier = estimate(
        np.column_stack([scores, np.ones(items)]), clusters, lambda sums: sums[..., 0] / sums[..., 1], (0.0, 2.0)
    )
    count = count or bin_count(len(set(clusters)))
    parts = np.zeros(3)
    for column in range(classes):
        parts += _murphy(probabilities[:, column], hits[:, column], count)
    return Decomposition(brier, *map(float, parts))


def _murphy(stated: FloatArray, hits: FloatArray, count: int) -> FloatArray:
    """Compute reliability, resolution and uncertainty of one class, bias-corrected."""
    bins = equal_mass_bins(stated, count)
    sizes = np.bincount(bins).astype(np.float64)
    shares = np.bincount(bins, weights=hits) / sizes
    means = np.bincount(bins, weights=stated) / sizes
    items, overall = len(stated), float(hits.mean())
    chance = float((sizes / items * shares * (1 - shares) / np.maximum(1.0, sizes - 1)).sum())
    spread = overall * (1 - overall) / max(1, items - 1)
    reliability = float((sizes / items * (means - shares) ** 2).sum()) - chance
    resolution = float((sizes / items * (shares - overall) ** 2).sum()) - chance + spread
    return np.array([reliability, resolution, overall * (1 - overall) + spread])
