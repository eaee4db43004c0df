"""Cluster bootstrap on additive statistics.

A metric is a function of the sum of its items' statistics, so a resample is a vector of weights over
clusters (source documents), and resamples of all systems together are one matrix product.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993); the cluster form after Cameron,
Gelbach and Miller (2008), Bootstrap-Based Improvements for Inference with Clustered Errors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student_t

from sizewise.stats.permutation import sign_flip_p

FloatArray = npt.NDArray[np.float64]
DRAWS = 2**17  # clusters drawn at once
ValueOfSums = Callable[[FloatArray], FloatArray]


class Interval(NamedTuple):
    """A point estimate with its 95 % interval."""

    value: float
    ci_low: float
    ci_high: float


def cluster_sums(stats: FloatArray, clusters: Sequence[str]) -> FloatArray:
    """Add up item statistics by cluster.

    Args:
        stats: (items, k) additive statistics.
        clusters: one cluster name an item; clusters come out in order of name.

    Returns:
        (clusters, k) sums.
    """
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.zeros((len(names), stats.shape[1]))
    np.add.at(sums, index, stats)
    return sums


def resampled_sums(sums: FloatArray, rounds: int, seed: int) -> FloatArray:
    """Draw clusters with replacement, as many as there are, and add up each resample.

    Resamples of the same number of clusters, rounds and seed hold the same clusters, whatever is summed.

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
    at_once = max(1, DRAWS // clusters)  # the weights of all rounds need not fit into memory
    for start in range(0, rounds, at_once):
        some = min(at_once, rounds - start)
        drawn = random.integers(0, clusters, (some, clusters), dtype=np.int32)
        drawn += np.arange(some, dtype=np.int32)[:, None] * clusters
        weights = np.bincount(drawn.ravel(), minlength=some * clusters).reshape(some, clusters)
        found[start : start + some] = weights.astype(np.float64) @ sums
    return found


def percentile_interval(values: FloatArray, level: float = 0.95) -> tuple[float, float]:
    """Take the percentile interval of resampled values, resamples without a value left out."""
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    ci_low, ci_high = np.quantile(values, [tail, 1 - tail])
    return float(ci_low), float(ci_high)


def interval(
    stats: FloatArray, clusters: Sequence[str], value: ValueOfSums, rounds: int = 2000, seed: int = 0
) -> Interval:
    """Estimate a metric and its 95 % interval, resampling clusters.

    Args:
        stats: (items, k) additive statistics, at least one item.
        clusters: one cluster name an item.
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
    """Compare two systems on the same items: `paired_differences` of one pair."""
    return paired_differences([left, right], [(0, 1)], clusters, value, rounds, seed)[0]


def paired_differences(
    stats: Sequence[FloatArray],
    pairs: Sequence[tuple[int, int]],
    clusters: Sequence[str],
    value: ValueOfSums,
    rounds: int = 10_000,
    seed: int = 0,
) -> list[tuple[Interval, float]]:
    """Compare systems on the same items.

    All are resampled with the same weights, so that what makes an item hard cancels. The p-value is the larger of
    that of a t-test on the delete-one-cluster jackknife with clusters - 1 degrees of freedom (MacKinnon, Nielsen
    and Webb, 2023, Cluster-robust inference: a guide to empirical practice, the CV3 variance), which fits many
    clusters, and that of the sign-flip test, which is exact with few. Neither depends on the number of rounds, so
    that a correction for hundreds of claims leaves something to show.

    Args:
        stats: (items, k) additive statistics of each system, in the same order of items.
        pairs: places of the two systems of each comparison.
        clusters: one cluster name an item.
        value: turns sums (..., k) into values (...).
        rounds: bootstrap rounds.
        seed: seed of the resampling.

    Returns:
        Of each pair the difference left minus right with its interval, and the two-sided p-value.
    """
    sums = [cluster_sums(one, clusters) for one in stats]
    points = [float(value(one.sum(axis=0))) for one in sums]
    if len(sums[0]) < 2:
        nan = float("nan")
        return [(Interval(points[left] - points[right], nan, nan), nan) for left, right in pairs]
    wide = sums[0].shape[1]
    drawn = resampled_sums(np.hstack(sums), rounds, seed)
    values = [value(drawn[:, i * wide : (i + 1) * wide]) for i in range(len(sums))]
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
    """Give the share of resamples in which each system is the best; systems that tie share it.

    Args:
        stats: (items, k) additive statistics of each system, in the same order of items.
        clusters: one cluster name an item.
        value: turns sums (..., k) into values (...).
        higher: whether more is better.
        rounds: bootstrap rounds.
        seed: seed of the resampling.
    """
    sums = [cluster_sums(one, clusters) for one in stats]
    wide = sums[0].shape[1]
    drawn = resampled_sums(np.hstack(sums), rounds, seed)
    values = np.stack([value(drawn[:, i * wide : (i + 1) * wide]) for i in range(len(sums))], axis=1)
    values = np.nan_to_num(values if higher else -values, nan=-np.inf)
    best = values == values.max(axis=1, keepdims=True)
    shares: FloatArray = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    return [float(share) for share in shares]


def _jackknife_p(left: FloatArray, right: FloatArray, value: ValueOfSums) -> float:
    """Compute the two-sided p-value of the difference by leaving out one cluster at a time.

    It is 0 where leaving out any cluster changes nothing: unanimous clusters are for the sign-flip test to judge.
    """
    clusters = len(left)
    point = float(value(left.sum(axis=0)) - value(right.sum(axis=0)))
    without = value(left.sum(axis=0) - left) - value(right.sum(axis=0) - right)
    error = float(np.sqrt((clusters - 1) / clusters * np.square(without - point).sum()))
    if not np.isfinite(error) or point == 0:
        return 1.0
    return float(2 * student_t.sf(abs(point) / error, clusters - 1)) if error else 0.0
