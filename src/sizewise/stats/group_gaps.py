"""Rates of groups of people, the largest gap between any two groups, and the gap that would have been found.

A gap is tested by dealing the groups anew to the clusters (or, where a cluster holds several groups, by flipping the
sign of what each cluster adds to the gap), with a statistic that is divided by its standard error under equal rates.
The largest statistic over all pairs gives p-values and intervals that hold for all pairs together. Clusters are
independent; their items aren't.

Sources: Westfall and Young (1993), Resampling-based multiple testing; Chung and Romano (2013), Exact and asymptotically
robust permutation tests, for the division by the standard error; Agresti and Caffo (2000), Simple and effective
confidence intervals for proportions and differences of proportions; Fleiss, Levin and Paik (2003), Statistical methods
for rates and proportions, for the power.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from sizewise.stats.inference import LEVEL, MIN_CLUSTERS, FloatArray, IntArray, Interval, estimate, family_interval

DRAWS = 1_999
MAX_UNITS = 2_000
"""More clusters than this are dealt to this many units, within their group."""
POWER = 0.8
_BATCH = 200
_TIE = 1e-9
_SINGLE = float(norm.isf(LEVEL / 2))


class GroupRate(NamedTuple):
    """The rate of one group."""

    group: str
    n: int
    clusters: int
    rate: Interval
    """The interval is of this group alone."""


class PairGap(NamedTuple):
    """The gap between two groups, with an interval that holds for all pairs together."""

    left: str
    right: str
    value: float
    """Rate of left minus rate of right."""
    ci_low: float
    ci_high: float
    p_adjusted: float
    """P-value of equal rates, adjusted for all pairs and rates. If it is below LEVEL, the interval stays on one side of
    zero."""
    detectable: float
    """Gap that would be found with POWER."""


class Gaps(NamedTuple):
    """Rates of all groups, and the gaps between those with enough clusters."""

    rates: list[GroupRate]
    pairs: list[PairGap]
    critical: float
    """Value that the largest statistic over all pairs has to exceed."""

    @property
    def worst(self) -> PairGap | None:
        """The largest gap; None if fewer than two groups have enough clusters."""
        return max(self.pairs, key=lambda pair: abs(pair.value), default=None)

    @property
    def worst_interval(self) -> Interval | None:
        """The size of the largest gap between any two groups, with its simultaneous interval."""
        if self.worst is None:
            return None
        lower = max(max(pair.ci_low, -pair.ci_high, 0.0) for pair in self.pairs)
        upper = max(max(abs(pair.ci_low), abs(pair.ci_high)) for pair in self.pairs)
        return Interval(abs(self.worst.value), lower, upper)

    @property
    def p(self) -> float | None:
        """P-value of equal rates in all groups."""
        return min((pair.p_adjusted for pair in self.pairs), default=None)

    @property
    def detectable(self) -> float | None:
        """Gap between any two groups that would be found with POWER."""
        return max((pair.detectable for pair in self.pairs), default=None)


class _Units(NamedTuple):
    """Sums of the values by cluster and group."""

    sums: FloatArray
    sizes: FloatArray
    group: IntArray
    cluster: IntArray


def compare_groups(
    values: FloatArray, groups: Sequence[str], clusters: Sequence[str], *, claims: int = 1, seed: int = 0
) -> Gaps:
    """Compare the mean of a value between groups, pair by pair.

    Args:
        values: (items,) 0 or 1 for a rate, or any other number; items that don't count for the rate are left out.
        groups: group of each item.
        clusters: cluster name of each item.
        claims: number of rates that are compared; they share the level.
        seed: seed of the draws.
    """
    if not len(values):
        return Gaps([], [], float("nan"))
    names, index = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    labels = np.asarray(clusters, dtype=object).astype(str)
    is_rate = bool(np.isin(values, (0.0, 1.0)).all())
    rates = [_rate(str(name), values[index == i], labels[index == i], is_rate) for i, name in enumerate(names)]
    tested = [i for i, rate in enumerate(rates) if rate.clusters >= MIN_CLUSTERS]
    if len(tested) < 2:
        return Gaps(rates, [], float("nan"))
    kept = np.isin(index, tested)
    units = _units(values[kept], np.searchsorted(tested, index[kept]), labels[kept], len(tested))
    pairs = list(combinations(range(len(tested)), 2))
    observed, drawn = _statistics(units, pairs, len(tested), seed)
    p = np.minimum(1.0, claims * _step_down(observed, drawn))
    critical = float(np.quantile(drawn.max(axis=1), 1 - LEVEL / claims))
    critical = max(critical, float(norm.isf(LEVEL / claims / 2)))
    chosen = [rates[i] for i in tested]
    spreads = [_spread(units, i, rate, is_rate) for i, rate in enumerate(chosen)]
    found = [
        _pair(chosen[i], chosen[j], (spreads[i], spreads[j]), critical, float(p[k])) for k, (i, j) in enumerate(pairs)
    ]
    return Gaps(rates, found, critical)


def _rate(name: str, values: FloatArray, clusters: np.ndarray, is_rate: bool) -> GroupRate:
    stats = np.column_stack([values, np.ones(len(values))])
    bounds = (0.0, 1.0) if is_rate else (-np.inf, np.inf)
    found = estimate(stats, list(clusters), lambda sums: sums[..., 0] / sums[..., 1], bounds)
    return GroupRate(name, len(values), len(set(clusters)), found)


def _units(values: FloatArray, index: IntArray, clusters: np.ndarray, count: int) -> _Units:
    """Sum by cluster and group; many clusters are dealt to fewer units, each within one group."""
    names, cluster = np.unique(clusters, return_inverse=True)
    key, place = np.unique(cluster * count + index, return_inverse=True)
    sums = np.bincount(place, weights=values).astype(np.float64)
    sizes = np.bincount(place).astype(np.float64)
    group, cluster = key % count, key // count
    if len(key) <= MAX_UNITS or len(key) > len(names):
        return _Units(sums, sizes, group.astype(np.int64), cluster.astype(np.int64))
    order = np.random.default_rng(len(key)).permutation(len(key))
    order = order[np.argsort(group[order], kind="stable")]
    dealt = np.empty(len(key), dtype=np.int64)
    first = 0
    for number in range(count):
        members = order[group[order] == number]
        places = max(MIN_CLUSTERS, MAX_UNITS * len(members) // len(key))
        dealt[members] = first + np.arange(len(members)) % min(places, len(members))
        first += min(places, len(members))
    unit_group = np.zeros(first, dtype=np.int64)
    unit_group[dealt] = group
    sums = np.bincount(dealt, weights=sums).astype(np.float64)
    sizes = np.bincount(dealt, weights=sizes).astype(np.float64)
    return _Units(sums, sizes, unit_group, np.arange(first))


def _statistics(
    units: _Units, pairs: Sequence[tuple[int, int]], count: int, seed: int
) -> tuple[FloatArray, FloatArray]:
    """Compute the statistic of each pair, (pairs,), and its values without any gap, (draws, pairs)."""
    rng = np.random.default_rng(seed)
    if len(np.unique(units.cluster)) < len(units.cluster):
        return _flipped(units, pairs, rng)
    columns = np.column_stack([units.sums, units.sizes, units.sums**2, units.sums * units.sizes, units.sizes**2])
    observed = _studentized(_totals(units.group[None, :], columns, count), pairs)[0]
    drawn = []
    for start in range(0, DRAWS, _BATCH):
        shuffled = rng.permuted(np.tile(units.group, (min(_BATCH, DRAWS - start), 1)), axis=1)
        drawn.append(_studentized(_totals(shuffled, columns, count), pairs))
    return observed, np.concatenate(drawn)


def _totals(groups: IntArray, columns: FloatArray, count: int) -> FloatArray:
    """Sum the columns of the units by group: (draws, groups, columns)."""
    found = [(groups == number).astype(np.float64) @ columns for number in range(count - 1)]
    return np.stack([*found, columns.sum(axis=0) - sum(found)], axis=1)


def _studentized(totals: FloatArray, pairs: Sequence[tuple[int, int]]) -> FloatArray:
    """Divide the gap of each pair by its standard error under equal rates, (draws, pairs)."""
    left, right = (totals[:, list(side)] for side in zip(*pairs, strict=True))
    pooled = (left[..., 0] + right[..., 0]) / (left[..., 1] + right[..., 1])
    variance = np.zeros_like(pooled)
    for side in (left, right):
        squares = side[..., 2] - 2 * pooled * side[..., 3] + pooled**2 * side[..., 4]
        variance += np.maximum(squares, 0.0) / side[..., 1] ** 2
    gaps = np.abs(left[..., 0] / left[..., 1] - right[..., 0] / right[..., 1])
    found: FloatArray = gaps / np.sqrt(np.where(variance > _TIE**2, variance, np.inf))
    return found


def _flipped(
    units: _Units, pairs: Sequence[tuple[int, int]], rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Do the same where clusters hold several groups: flip the sign of what each cluster adds to a gap."""
    clusters = np.unique(units.cluster, return_inverse=True)[1]
    parts = []
    for pair in pairs:
        sides = [units.group == one for one in pair]
        both = sides[0] | sides[1]
        pooled = units.sums[both].sum() / units.sizes[both].sum()
        signed = np.zeros(len(units.sums))
        for side, sign in zip(sides, (1.0, -1.0), strict=True):
            signed[side] = sign * (units.sums[side] - pooled * units.sizes[side]) / units.sizes[side].sum()
        parts.append(np.bincount(clusters, weights=signed))
    matrix = np.column_stack(parts)
    scale = np.sqrt(np.square(matrix).sum(axis=0))
    scale = np.where(scale > _TIE, scale, np.inf)
    signs = 1.0 - 2.0 * rng.integers(0, 2, (DRAWS, len(matrix)))
    return np.abs(matrix.sum(axis=0)) / scale, np.abs(signs @ matrix) / scale


def _step_down(observed: FloatArray, drawn: FloatArray) -> FloatArray:
    """Adjust p-values by the largest statistic over all pairs that aren't yet significant."""
    order = np.argsort(observed)
    largest = np.maximum.accumulate(drawn[:, order], axis=1)
    p = (1 + (largest >= observed[order] * (1 - _TIE)).sum(axis=0)) / (1 + len(drawn))
    p = np.maximum.accumulate(p[::-1])[::-1]
    adjusted = np.empty_like(p)
    adjusted[order] = p
    return adjusted


class _Spread(NamedTuple):
    center: float
    variance: float
    size: float
    """Effective number of independent items."""
    is_rate: bool


def _spread(units: _Units, number: int, rate: GroupRate, is_rate: bool) -> _Spread:
    """Compute the variance of a group's rate as if one more success and one more failure had been seen."""
    chosen = units.group == number
    sums, sizes, value = units.sums[chosen], units.sizes[chosen], rate.rate.value
    count = len(sums)
    variance = float(np.square(sums - value * sizes).sum() / sizes.sum() ** 2 * count / (count - 1))
    if not is_rate:
        return _Spread(value, max(variance, 1 / (rate.n + 2) ** 2), float(rate.n), False)
    size = float(rate.clusters)
    if 0 < value < 1 and variance > 0:
        size = min(float(rate.n), value * (1 - value) / variance)
    center = (value * size + 1) / (size + 2)
    return _Spread(center, center * (1 - center) / (size + 2), size, True)


def _pair(
    left: GroupRate, right: GroupRate, spreads: tuple[_Spread, _Spread], critical: float, p_adjusted: float
) -> PairGap:
    value = left.rate.value - right.rate.value
    one, other = spreads
    error = float(np.sqrt(one.variance + other.variance))
    half = float(norm.isf(LEVEL / 2)) * error
    center = one.center - other.center
    ends = min(value, center - half), max(value, center + half)
    level = float(2 * norm.sf(critical))
    clusters = left.clusters + right.clusters
    ci_low, ci_high = family_interval((value, *ends), clusters, level, p_adjusted < LEVEL)
    if one.is_rate:
        ci_low, ci_high = max(ci_low, -1.0), min(ci_high, 1.0)
        lower_rate = min(left.rate.value, right.rate.value)
        smallest = detectable_gap(lower_rate, (one.size, other.size), critical)
    else:
        smallest = (critical + float(norm.ppf(POWER))) * error
    return PairGap(left.group, right.group, value, ci_low, ci_high, p_adjusted, smallest)


def gap_power(
    gap: float, rate: float, sizes: tuple[float, float], critical: float = float(norm.isf(LEVEL / 2))
) -> float:
    """Compute the probability of finding a gap between two rates.

    Args:
        gap: true gap.
        rate: the smaller of the two rates.
        sizes: independent items of the two groups.
        critical: value that the statistic has to exceed.

    Returns:
        The smaller one of the two probabilities that result if either group has the higher rate.
    """
    larger = min(1.0, rate + gap)
    found = []
    for first, second in (sizes, sizes[::-1]):
        pooled = (rate * first + larger * second) / (first + second)
        without = np.sqrt(pooled * (1 - pooled) * (1 / first + 1 / second))
        error = np.sqrt(rate * (1 - rate) / first + larger * (1 - larger) / second)
        found.append(float(norm.cdf((larger - rate - critical * without) / error)) if error > 0 else 1.0)
    return min(found)


def detectable_gap(rate: float, sizes: tuple[float, float], critical: float = _SINGLE) -> float:
    """Compute the gap that is found with POWER; 1 - rate if no gap is."""
    below, above = 0.0, 1.0 - rate
    if gap_power(above, rate, sizes, critical) < POWER:
        return above
    for _ in range(40):
        middle = (below + above) / 2
        below, above = (middle, above) if gap_power(middle, rate, sizes, critical) < POWER else (below, middle)
    return above
