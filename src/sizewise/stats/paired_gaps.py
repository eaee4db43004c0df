"""The largest gap between groups that were measured on the same items, and the difference of two such gaps.

The interval of the largest gap holds for all pairs of groups together (Bonferroni): its ends are the largest of the
pairs' ends. Noise alone makes the largest gap of a model larger than zero, the more so the more its values vary. So two
models' gaps aren't subtracted item by item; they differ if their intervals, at half the level each, don't overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student_t

from sizewise.stats.inference import LEVEL, MIN_CLUSTERS, UNBOUNDED, Bounds, FloatArray, Interval, estimate

_STEPS = 40  # halvings until a p-value is exact to twelve digits


class WorstGap(NamedTuple):
    """The two groups that are furthest apart."""

    one: int
    """Group with the highest mean."""
    other: int
    """Group with the lowest mean."""
    pairs: tuple[Interval, ...]
    """Difference of each pair of groups, with the 95% interval of that pair alone."""
    clusters: int
    """Independent clusters behind it."""

    @property
    def value(self) -> float:
        """The gap: highest mean minus lowest mean."""
        return max(abs(pair.value) for pair in self.pairs)

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Return the interval at 1 - level that holds for all pairs of groups; NaN with too few clusters."""
        df = max(1, self.clusters - 1)
        wider = float(student_t.isf(level / len(self.pairs) / 2, df) / student_t.isf(LEVEL / 2, df))
        lower, upper = [], []
        for value, ci_low, ci_high in self.pairs:
            if self.clusters < MIN_CLUSTERS or not np.isfinite([ci_low, ci_high]).all():
                return float("nan"), float("nan")
            ends = value - wider * (value - ci_low), value + wider * (ci_high - value)
            lower.append(max(0.0, ends[0], -ends[1]))
            upper.append(max(abs(ends[0]), abs(ends[1])))
        return max(lower), max(upper)


def worst_gap(values: FloatArray, clusters: Sequence[str], bounds: Bounds = UNBOUNDED) -> WorstGap:
    """Find the two groups that are furthest apart.

    Args:
        values: (items, groups), at least two groups.
        clusters: cluster name of each item.
        bounds: smallest and largest possible difference of two groups.
    """
    means = values.mean(axis=0)
    ones = np.ones(len(values))
    pairs = tuple(
        estimate(np.column_stack([values[:, i] - values[:, j], ones]), clusters, _mean, bounds)
        if np.any(values[:, i] != values[:, j])
        else Interval(0.0, 0.0, 0.0)
        for i, j in combinations(range(values.shape[1]), 2)
    )
    return WorstGap(int(means.argmax()), int(means.argmin()), pairs, len(set(clusters)))


def _mean(sums: FloatArray) -> FloatArray:
    found: FloatArray = sums[..., 0] / sums[..., 1]
    return found


class GapDifference(NamedTuple):
    """The gap of one model minus that of another."""

    value: float
    ci_low: float
    ci_high: float
    p: float


def gap_difference(one: WorstGap, other: WorstGap, level: float = LEVEL) -> GapDifference:
    """Subtract two largest gaps, with an interval at 1 - level and a two-sided p-value, both conservative.

    Args:
        one: gap of the first model.
        other: gap of the second model, on the same items.
        level: level of the interval.
    """
    lower, upper = _ends(one, other, level)
    if not np.isfinite([lower, upper]).all():
        return GapDifference(one.value - other.value, float("nan"), float("nan"), float("nan"))
    smallest, largest = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (smallest + largest) / 2
        ends = _ends(one, other, middle)
        if ends[0] > 0 or ends[1] < 0:
            largest = middle
        else:
            smallest = middle
    return GapDifference(one.value - other.value, lower, upper, largest)


def _ends(one: WorstGap, other: WorstGap, level: float) -> tuple[float, float]:
    mine, theirs = one.interval(level / 2), other.interval(level / 2)
    return mine[0] - theirs[1], mine[1] - theirs[0]
