"""Intervals of reference methods for the grid of benchmarks/stats.py: what a careful user would compute instead."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, ndtr, ndtri, stdtrit

FloatArray = npt.NDArray[np.float64]
Bounds = tuple[float, float]
RESAMPLES = 999
LEVEL = 0.05


def resample_weights(clusters: int, seed: int) -> FloatArray:
    """Draw bootstrap weights of clusters, (resamples, clusters); all runs of a cell share them."""
    random = np.random.default_rng(seed)
    return random.multinomial(clusters, np.full(clusters, 1 / clusters), size=RESAMPLES).astype(np.float64)


def references(sums: FloatArray, weights: FloatArray, value: Callable[[FloatArray], FloatArray]) -> dict[str, Bounds]:
    """Compute intervals over clusters: jackknife t, percentile bootstrap and BCa (Efron, 1987).

    Args:
        sums: (clusters, k) statistics of one system, or (clusters, 2, k) of two whose difference is wanted.
        weights: bootstrap weights of the clusters.
        value: turns sums (..., k) into values (...).
    """

    def target(totals: FloatArray) -> FloatArray:
        found = value(totals)
        return found[..., 0] - found[..., 1] if sums.ndim == 3 else found

    clusters = len(sums)
    point = float(target(sums.sum(axis=0)))
    without = target(sums.sum(axis=0) - sums)
    center = without.mean()
    error = float(np.sqrt((clusters - 1) / clusters * np.square(without - center).sum()))
    half = -float(stdtrit(clusters - 1, LEVEL / 2)) * error
    drawn = target((weights @ sums.reshape(clusters, -1)).reshape(-1, *sums.shape[1:]))
    drawn = np.sort(drawn[np.isfinite(drawn)])
    if len(drawn) == 0:
        return {"t": (point - half, point + half)}
    low, high = np.quantile(drawn, [LEVEL / 2, 1 - LEVEL / 2])
    found = {"t": (point - half, point + half), "percentile bootstrap": (float(low), float(high))}
    below = (np.count_nonzero(drawn < point) + np.count_nonzero(drawn <= point)) / (2 * len(drawn))
    spread = np.square(center - without).sum()
    if 0 < below < 1 and spread > 0:
        bias, skewness = ndtri(below), ((center - without) ** 3).sum() / (6 * spread**1.5)
        shifted = bias + ndtri([LEVEL / 2, 1 - LEVEL / 2])
        ends = np.quantile(drawn, ndtr(bias + shifted / (1 - skewness * shifted)))
        found["BCa"] = (float(ends[0]), float(ends[1]))
    return found


def of_proportion(successes: int, n: int) -> dict[str, Bounds]:
    """Compute intervals of a proportion of independent items: Wilson, Clopper-Pearson."""
    share, z = successes / n, -float(ndtri(LEVEL / 2))
    center, half = share + z * z / (2 * n), z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    wilson = (center - half) / (1 + z * z / n), (center + half) / (1 + z * z / n)
    low = float(betaincinv(successes, n - successes + 1, LEVEL / 2)) if successes else 0.0
    high = float(betaincinv(successes + 1, n - successes, 1 - LEVEL / 2)) if successes < n else 1.0
    return {"Wilson": (max(0.0, float(wilson[0])), min(1.0, float(wilson[1]))), "Clopper-Pearson": (low, high)}


def of_paired_proportions(won: int, lost: int, n: int) -> Bounds:
    """Compute the adjusted Wald interval of Bonett and Price (2012), for independent items."""
    more, less = (won + 1) / (n + 2), (lost + 1) / (n + 2)
    half = -float(ndtri(LEVEL / 2)) * np.sqrt((more + less - (more - less) ** 2) / (n + 2))
    return max(-1.0, more - less - half), min(1.0, more - less + half)
