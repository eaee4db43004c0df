"""Cluster bootstrap on additive statistics.

A metric is a function of the sum of its items' statistics, so a resample is a vector of weights over clusters (source
documents), and resampling all systems together is one matrix product.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993); the cluster form after Cameron,
Gelbach and Miller (2008), Bootstrap-Based Improvements for Inference with Clustered Errors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student_t

from sizewise.stats.inference import Interval as Interval
from sizewise.stats.permutation import sign_flip_p

FloatArray = npt.NDArray[np.float64]
DRAWS_PER_BATCH = 2**17  # clusters drawn per batch
ValueOfSums = Callable[[FloatArray], FloatArray]


def cluster_sums(stats: FloatArray, clusters: Sequence[str]) -> FloatArray:
    """Sum item statistics by cluster.

    Args:
        stats: (items, k) additive statistics.
        clusters: cluster name of each item; the result is sorted by name.

    Returns:
        (clusters, k) sums.
    """
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.zeros((len(names), stats.shape[1]))
    np.add.at(sums, index, stats)
    return sums


def resampled_sums(sums: FloatArray, rounds: int, seed: int) -> FloatArray:
    """Draw clusters with replacement and sum each resample.

    With equal rounds, seed and number of clusters, the same clusters are drawn regardless of the statistics.

    Args:
        sums: (clusters, k) sums of each cluster.
        rounds: number of resamples.
        seed: seed of the resampling.

    Returns:
        (rounds, k).
    """
    random = np.random.default_rng(seed)
    clusters = len(sums)
    found = np.empty((rounds, sums.shape[1]))
    batch = max(1, DRAWS_PER_BATCH // clusters)  # keeps the weight matrix small
    for start in range(0, rounds, batch):
        size = min(batch, rounds - start)
        drawn = random.integers(0, clusters, (size, clusters), dtype=np.int32)
        drawn += np.arange(size, dtype=np.int32)[:, None] * clusters
        weights = np.bincount(drawn.ravel(), minlength=size * clusters).reshape(size, clusters)
        found[start : start + size] = weights.astype(np.float64) @ sums
    return found


def percentile_interval(values: FloatArray, level: float = 0.95) -> tuple[float, float]:
    """Compute the percentile interval of resampled values, ignoring resamples without a value."""
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    ci_low, ci_high = np.quantile(values, [tail, 1 - tail])
    return float(ci_low), float(ci_high)


def interval(
    stats: FloatArray, clusters: Sequence[str], value: ValueOfSums, rounds: int = 2000, seed: int = 0
) -> Interval:
    """Estimate a metric and its 95% interval by resampling clusters.

    Args:
        stats: (items, k) additive statistics, at least one item.
        clusters: cluster name of each item.
        value: turns sums (..., k) into values (...).
        rounds: bootstrap rounds.
        seed: seed of the resampling.
    """
    sums = cluster_sums(stats, clusters)
    point = float(value(sums.sum(axis=0)))
    if len(sums) < 2:
        return Interval(point, float("nan"), float("nan"))
    resampled = value(resampled_sums(sums, rounds, seed))
    ci_low, ci_high = percentile_interval(resampled)
    return Interval(point, ci_low, ci_high)


def paired_difference(
    left: FloatArray,
    right: FloatArray,
    clusters: Sequence[str],
    value: ValueOfSums,
    rounds: int = 10_000,
    seed: int = 0,
) -> tuple[Interval, float]:
    """Compare two systems on the same items; `paired_differences` for one pair."""
    return paired_differences([left, right], [(0, 1)], clusters, value, rounds, seed)[0]


def paired_differences(
    stats: Sequence[FloatArray],
    pairs: Sequence[tuple[int, int]],
    clusters: Sequence[str],
    value: ValueOfSums,
    rounds: int = 10_000,
    seed: int = 0,
) -> list[tuple[Interval, float]]:
    """Compare pairs of systems on the same items.

    All systems are resampled with the same weights, so the difficulty of the items cancels out. The p-value is the
    larger of two: a t-test on the delete-one-cluster jackknife with clusters - 1 degrees of freedom (MacKinnon, Nielsen
    and Webb, 2023, Cluster-robust inference: a guide to empirical practice, CV3 variance), suited to many clusters, and
    the sign-flip test, exact for few clusters. Neither is limited by the number of rounds, so p-values can survive a
    correction for hundreds of claims.

    Args:
        stats: (items, k) additive statistics of each system, items in the same order.
        pairs: indices of the two systems of each comparison.
        clusters: cluster name of each item.
        value: turns sums (..., k) into values (...).
        rounds: bootstrap rounds.
        seed: seed of the resampling.

    Returns:
        For each pair: the difference left minus right with its interval, and the two-sided p-value.
    """
    sums = [cluster_sums(system, clusters) for system in stats]
    points = [float(value(system.sum(axis=0))) for system in sums]
    if len(sums[0]) < 2:
        nan = float("nan")
        return [(Interval(points[left] - points[right], nan, nan), nan) for left, right in pairs]
    width = sums[0].shape[1]
    drawn = resampled_sums(np.hstack(sums), rounds, seed)
    values = [value(drawn[:, i * width : (i + 1) * width]) for i in range(len(sums))]
    found = []
    for left, right in pairs:
        differences = values[left] - values[right]
        ci_low, ci_high = percentile_interval(differences)
        p = max(sign_flip_p(sums[left], sums[right], value, seed), _jackknife_p(sums[left], sums[right], value))
        found.append((Interval(points[left] - points[right], ci_low, ci_high), p))
    return found


def best_shares(
    stats: Sequence[FloatArray],
    clusters: Sequence[str],
    value: ValueOfSums,
    higher: bool,
    rounds: int = 2_000,
    seed: int = 0,
) -> list[float]:
    """Compute the share of resamples in which each system is the best; tied systems split it.

    Args:
        stats: (items, k) additive statistics of each system, items in the same order.
        clusters: cluster name of each item.
        value: turns sums (..., k) into values (...).
        higher: whether higher values are better.
        rounds: bootstrap rounds.
        seed: seed of the resampling.
    """
    sums = [cluster_sums(system, clusters) for system in stats]
    width = sums[0].shape[1]
    drawn = resampled_sums(np.hstack(sums), rounds, seed)
    values = np.stack([value(drawn[:, i * width : (i + 1) * width]) for i in range(len(sums))], axis=1)
    values = np.nan_to_num(values if higher else -values, nan=-np.inf)
    best = values == values.max(axis=1, keepdims=True)
    shares: FloatArray = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    return [float(share) for share in shares]


def _jackknife_p(left: FloatArray, right: FloatArray, value: ValueOfSums) -> float:
    """Compute the two-sided jackknife p-value of the difference, leaving out one cluster at a time.

    Returns 0 if no cluster makes a difference; for unanimous clusters only the sign-flip test applies.
    """
    clusters = len(left)
    point = float(value(left.sum(axis=0)) - value(right.sum(axis=0)))
    without = value(left.sum(axis=0) - left) - value(right.sum(axis=0) - right)
    error = float(np.sqrt((clusters - 1) / clusters * np.square(without - point).sum()))
    if not np.isfinite(error) or point == 0:
        return 1.0
    return float(2 * student_t.sf(abs(point) / error, clusters - 1)) if error else 0.0
