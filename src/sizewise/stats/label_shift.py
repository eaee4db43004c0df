"""Change of the mix of labels between two samples, tested by cluster.

Whole clusters are dealt to the two samples anew, so that several items of one source document count as one observation.

Source: Rao and Scott (1981), The analysis of categorical data from complex sample surveys, for the statistic's problem
with clusters; Good (2005), Permutation, parametric and bootstrap tests of hypotheses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sizewise.stats.inference import MIN_CLUSTERS, FloatArray, IntArray

DRAWS = 999
MAX_UNITS = 2_000


class Shift(NamedTuple):
    """Shares of the labels in two samples."""

    before: FloatArray
    after: FloatArray
    distance: float
    """Total variation distance of the two mixes, from 0 to 1."""
    p: float
    """P-value of equal mixes; NaN with too few clusters."""


def label_shift(
    before: tuple[IntArray, Sequence[str]], after: tuple[IntArray, Sequence[str]], labels: int, *, seed: int = 0
) -> Shift:
    """Compare the mix of labels in two samples.

    Args:
        before: index of the label of each item, and its cluster.
        after: the same for the other sample.
        labels: number of labels.
        seed: seed of the draws.
    """
    counts = [_by_cluster(*sample, labels) for sample in (before, after)]
    shares = [count.sum(axis=0) / max(1.0, count.sum()) for count in counts]
    distance = float(np.abs(shares[0] - shares[1]).sum() / 2)
    if min(map(len, counts)) < MIN_CLUSTERS:
        return Shift(shares[0], shares[1], distance, float("nan"))
    rng = np.random.default_rng(seed)
    units = np.vstack([_dealt(count, rng) for count in counts])
    first = min(len(counts[0]), MAX_UNITS)
    observed = _chi_square(units[:first], units[first:])
    exceeding = 0
    for _ in range(DRAWS):
        order = rng.permutation(len(units))
        exceeding += _chi_square(units[order[:first]], units[order[first:]]) >= observed * (1 - 1e-9)
    return Shift(shares[0], shares[1], distance, (1 + exceeding) / (1 + DRAWS))


def _by_cluster(index: IntArray, clusters: Sequence[str], labels: int) -> FloatArray:
    """Count the labels of each cluster, (clusters, labels)."""
    names, place = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
    counts = np.zeros((len(names), labels))
    np.add.at(counts, (place, index), 1.0)
    return counts


def _dealt(counts: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Deal many clusters to fewer units."""
    if len(counts) <= MAX_UNITS:
        return counts
    units = np.zeros((MAX_UNITS, counts.shape[1]))
    np.add.at(units, rng.permutation(len(counts)) % MAX_UNITS, counts)
    return units


def _chi_square(left: FloatArray, right: FloatArray) -> float:
    """Compute Pearson's statistic of two samples of counts."""
    table = np.stack([left.sum(axis=0), right.sum(axis=0)])
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / max(1.0, table.sum())
    return float((np.square(table - expected) / np.where(expected > 0, expected, 1.0)).sum())
