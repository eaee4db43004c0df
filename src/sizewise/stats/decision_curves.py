"""ROC and precision-recall curves with their areas, and precision, recall and F1 of each class.

Sources: Fawcett (2006), An introduction to ROC analysis; Davis and Goadrich (2006), The relationship between
precision-recall and ROC curves, for the area as average precision; Obuchowski (1997), Nonparametric analysis of
clustered ROC curve data, for the variance by cluster, here by the jackknife.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit
from scipy.stats import rankdata
from scipy.stats import t as student_t

from sizewise.stats.inference import (
    LEVEL,
    MIN_CLUSTERS,
    FloatArray,
    IntArray,
    Interval,
    Systems,
    estimate,
    group_clusters,
)
from sizewise.stats.proportions import wilson

JACKKNIFE_GROUPS = 200
"""Clusters are dealt to at most this many groups for the jackknife of an area."""
POINTS = 101
"""Maximum number of points of a curve."""


class Curve(NamedTuple):
    """A curve with the area under it."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    thresholds: tuple[float, ...]
    """Probability from which the positive class is decided at each point."""
    area: Interval


class ClassFigures(NamedTuple):
    """How well one class is recognized."""

    n: int
    """Cases of the class."""
    predicted: int
    """Cases decided as the class."""
    precision: Interval | None
    """None if no case was decided as the class."""
    recall: Interval | None
    """None if no case is of the class."""
    f1: Interval | None


def roc_area(probabilities: FloatArray, positives: IntArray) -> float:
    """Compute the area under the ROC curve: how often a positive case has the higher probability; NaN without both."""
    count = int(positives.sum())
    if not 0 < count < len(positives):
        return float("nan")
    ranks = rankdata(probabilities)
    return float((ranks[positives == 1].sum() - count * (count + 1) / 2) / (count * (len(positives) - count)))


def average_precision(probabilities: FloatArray, positives: IntArray) -> float:
    """Compute the area under the precision-recall curve as average precision; NaN without positive cases."""
    if not positives.any():
        return float("nan")
    _, hits, decided = _cumulated(probabilities, positives)
    recall = hits / hits[-1]
    return float((np.diff(recall, prepend=0.0) * hits / decided).sum())


def _cumulated(probabilities: FloatArray, positives: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return distinct probabilities, descending, with the positive and all cases at or above each of them."""
    order = np.argsort(-probabilities, kind="stable")
    stated = probabilities[order]
    last = np.append(np.flatnonzero(np.diff(stated)), len(stated) - 1)
    hits = np.cumsum(positives[order]).astype(np.float64)[last]
    return stated[last], hits, last + 1.0


def roc_curve(probabilities: FloatArray, positives: IntArray, clusters: Sequence[str]) -> Curve | None:
    """Compute the ROC curve (true-positive over false-positive rate); None unless both classes occur."""
    count = int(positives.sum())
    if not 0 < count < len(positives):
        return None
    stated, hits, decided = _cumulated(probabilities, positives)
    x, y = (decided - hits) / (len(positives) - count), hits / count
    thinned = _thinned(len(x))
    area = roc_area_interval(probabilities, positives, clusters)
    return Curve((0.0, *x[thinned]), (0.0, *y[thinned]), (1.0, *stated[thinned]), area)


def precision_recall_curve(probabilities: FloatArray, positives: IntArray, clusters: Sequence[str]) -> Curve | None:
    """Compute the precision-recall curve; None unless both classes occur."""
    count = int(positives.sum())
    if not 0 < count < len(positives):
        return None
    stated, hits, decided = _cumulated(probabilities, positives)
    x, y = hits / count, hits / decided
    thinned = _thinned(len(x))
    area = jackknife_area(average_precision, probabilities, positives, clusters)
    return Curve(tuple(x[thinned]), tuple(y[thinned]), tuple(stated[thinned]), area)


def _thinned(count: int) -> IntArray:
    return np.unique(np.linspace(0, count - 1, min(count, POINTS)).round().astype(np.int64))


def roc_area_interval(probabilities: FloatArray, positives: IntArray, clusters: Sequence[str]) -> Interval:
    """Estimate the area under the ROC curve with its interval on the logit scale, by cluster."""
    value = roc_area(probabilities, positives)
    chosen = positives == 1
    counts = int(chosen.sum()), int((~chosen).sum())
    groups, independent = group_clusters(clusters)
    if independent < MIN_CLUSTERS or min(counts) < 2:
        return Interval(value, np.nan, np.nan)
    ranks = rankdata(probabilities)
    parts = np.empty(len(positives))
    parts[chosen] = ((ranks[chosen] - rankdata(probabilities[chosen])) / counts[1] - value) / counts[0]
    parts[~chosen] = (1 - (ranks[~chosen] - rankdata(probabilities[~chosen])) / counts[0] - value) / counts[1]
    sums = np.bincount(groups, weights=parts)
    error = float(np.sqrt(np.square(sums).sum() * len(sums) / (len(sums) - 1)))
    return _on_logit_scale(value, error, len(sums) - 1, min(counts))


def jackknife_area(
    area: Callable[[FloatArray, IntArray], float],
    probabilities: FloatArray,
    positives: IntArray,
    clusters: Sequence[str],
    most: int = JACKKNIFE_GROUPS,
) -> Interval:
    """Estimate an area with its interval on the logit scale, by a jackknife over at most so many groups of clusters."""
    value = area(probabilities, positives)
    groups, independent = group_clusters(clusters)
    smaller = min(int(positives.sum()), len(positives) - int(positives.sum()))
    if independent < MIN_CLUSTERS or not np.isfinite(value) or smaller < 2:
        return Interval(value, np.nan, np.nan)
    groups = groups % most
    used = np.unique(groups)
    without = np.array([area(probabilities[groups != one], positives[groups != one]) for one in used])
    without = without[np.isfinite(without)]
    error = float(np.sqrt((len(without) - 1) / len(without) * np.square(without - without.mean()).sum()))
    return _on_logit_scale(value, error, len(without) - 1, smaller)


def _on_logit_scale(value: float, error: float, df: int, smaller: int) -> Interval:
    if value in (0.0, 1.0) or error == 0:
        lower, upper = wilson(value * smaller, smaller)  # a perfect separation doesn't show how rare its failures are
        return Interval(value, lower, upper)
    half = float(student_t.isf(LEVEL / 2, df)) * error / (value * (1 - value))
    return Interval(value, float(expit(logit(value) - half)), float(expit(logit(value) + half)))


def class_figures(decided: IntArray, labels: IntArray, clusters: Sequence[str], classes: int) -> list[ClassFigures]:
    """Compute precision, recall and F1 of each class with intervals by cluster.

    Args:
        decided: (items,) index of the decided class; negative if none was, for example because of a hand-over.
        labels: (items,) index of the correct class.
        clusters: cluster name of each item.
        classes: number of classes.
    """
    names = np.asarray(clusters, dtype=object)
    grouped = group_clusters(clusters)
    found = []
    for number in range(classes):
        is_decided, is_correct = decided == number, labels == number
        hits = is_decided & is_correct
        found.append(
            ClassFigures(
                int(is_correct.sum()),
                int(is_decided.sum()),
                _share(hits[is_decided], names[is_decided]),
                _share(hits[is_correct], names[is_correct]),
                _f1(hits, is_decided, is_correct, grouped),
            )
        )
    return found


def _share(hits: np.ndarray, clusters: np.ndarray) -> Interval | None:
    if not len(hits):
        return None
    stats = np.column_stack([hits, np.ones(len(hits))]).astype(np.float64)
    return estimate(stats, list(clusters), lambda sums: sums[..., 0] / sums[..., 1], (0.0, 1.0))


def _f1(
    hits: np.ndarray, is_decided: np.ndarray, is_correct: np.ndarray, grouped: tuple[IntArray, int]
) -> Interval | None:
    if not is_decided.any() and not is_correct.any():
        return None
    stats = np.column_stack([hits, is_decided.astype(np.float64) + is_correct])[:, None, :]
    return Systems(stats, grouped, lambda sums: 2 * sums[..., 0] / sums[..., 1], (0.0, 1.0)).score()
