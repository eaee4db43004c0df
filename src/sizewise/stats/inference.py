"""Estimates, intervals and p-values of metrics whose items are clustered by source document.

A metric is a function of the sum of its items' statistics, so everything here works on sums by cluster. Clusters are
independent; their items aren't. The p-value of a hypothesis is the largest of several tests, each of which is
reliable where another isn't, and the interval holds the values that these tests don't reject. The two therefore always
agree: a p-value is below the level exactly if the interval excludes zero.

Sources: Hartigan (1969), Using subsample values as typical values, for the exact test by random subsets of clusters;
Canay, Romano and Shaikh (2017), Randomization tests under an approximate symmetry assumption, for its cluster form;
MacKinnon, Nielsen and Webb (2023), Cluster-robust inference, for the jackknife t-test; Hall (1992), On the removal of
skewness by transformation; Wilson (1927) with the effective sample size of Korn and Graubard (1998) for proportions;
Bonett and Price (2012), Adjusted Wald confidence interval for a difference of binomial proportions based on paired
data; Westfall and Young (1993), Resampling-based multiple testing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizewise.stats.t_tests import LEVEL as LEVEL
from sizewise.stats.t_tests import TIE, TTest, skewed_t_test, t_isf, t_sf, t_test

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
ValueOfSums = Callable[[FloatArray], FloatArray]
Bounds = tuple[float, float]

MIN_CLUSTERS = 8
"""Minimum number of independent clusters (source documents) for an interval, a p-value or a claim."""
MAX_GROUPS = 1_000
"""More clusters than this are dealt to this many groups, which are independent of each other just as well."""
EXACT_CLUSTERS = 12
"""Maximum number of clusters for which all subsets are enumerated (4,095 of them)."""
DRAWS = 9_999
"""Random subsets for more clusters: the smallest p-value is 2 / 10,000."""
FAMILY_DRAWS = 1_999
"""Random sign flips for a family of claims."""
UNBOUNDED: Bounds = (-np.inf, np.inf)
_NEAR = 0.1  # share of the range within which items are nearly at a bound
_BIMODAL = 0.4  # share of the variance of right and wrong answers from which items count as nearly all or nothing
_FEW_ANSWERS = 16  # right times wrong answers over all answers, below which clusters look skewed by chance alone
_RESERVE = 1.06  # standard errors are estimates, and the larger of two p-values decides: measured with simulated data
_BATCH = 2**20  # signs per matrix product


class Interval(NamedTuple):
    """A point estimate with its 95% interval; the ends are NaN where there are too few clusters."""

    value: float
    ci_low: float
    ci_high: float


class Contrast(NamedTuple):
    """A difference of two systems with its 95% interval and two-sided p-value against zero."""

    value: float
    ci_low: float
    ci_high: float
    p: float
    error: float
    """Jackknife standard error."""
    step: float = 0.0
    """How much one item more changes a difference of proportions; 0 for other metrics."""


def group_clusters(clusters: Sequence[str]) -> tuple[IntArray, int]:
    """Number the clusters of items, dealing more than MAX_GROUPS of them to groups in a fixed random order.

    Args:
        clusters: cluster name of each item.

    Returns:
        (items,) group of each item, from 0 without gaps, and the number of clusters.
    """
    names, index = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
    if len(names) <= MAX_GROUPS:
        return index.astype(np.int64), len(names)
    dealt = np.random.default_rng(len(names)).permutation(len(names)) % MAX_GROUPS
    return dealt[index].astype(np.int64), len(names)


def sum_groups(stats: FloatArray, groups: IntArray) -> FloatArray:
    """Sum item statistics by group: (items, ...) -> (groups, ...)."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    sums: FloatArray = np.add.reduceat(stats[order].astype(np.float64, copy=False), starts, axis=0)
    return sums


class Systems:
    """Several systems measured with one metric on the same items.

    Args:
        stats: (items, systems, k) additive statistics.
        clusters: cluster name of each item.
        value: turns sums (..., k) into values (...).
        bounds: smallest and largest possible value.
        seed: seed of the random subsets.
    """

    def __init__(
        self,
        stats: FloatArray,
        clusters: Sequence[str] | tuple[IntArray, int],
        value: ValueOfSums,
        bounds: Bounds = UNBOUNDED,
        seed: int = 0,
    ) -> None:
        groups, self.clusters = clusters if isinstance(clusters, tuple) else group_clusters(clusters)
        self.items, self.bounds, self._value, self._seed = len(stats), bounds, value, seed
        self._stats = stats
        self._sums = sum_groups(stats, groups)
        with np.errstate(all="ignore"):
            total = self._sums.sum(axis=0)
            self.values = value(total)
            without = value(total - self._sums)
        count = len(self._sums)
        self.pseudo = count * self.values - (count - 1) * without
        """(groups, systems) jackknife pseudo-values, shifted so that their mean is the estimate."""
        if count > 1:
            self.pseudo += self.values - self.pseudo.mean(axis=0)
        self._successes = self._common_successes(stats)
        self._differences: dict[tuple[int, int], Contrast] = {}
        sizes = np.bincount(groups).astype(np.float64)
        self._score_df = max(1.0, float(sizes.sum() ** 2 / np.square(sizes).sum()) - 1)
        """Degrees of freedom of a score: unequal clusters count as fewer (Carter, Schnepel and Steigerwald, 2017)."""

    @cached_property
    def influence(self) -> FloatArray:
        """How much each cluster moves each system away from all systems together, (groups, systems).

        Swapping two systems on a cluster changes the sign of their difference, whatever the size of the cluster.
        Pseudo-values don't have this property, because they are centered on the estimates.
        """
        together = self._sums.sum(axis=0).mean(axis=0)
        with np.errstate(all="ignore"):
            apart = self._value(together + self._sums - self._sums.mean(axis=1, keepdims=True))
            found: FloatArray = apart - self._value(together)
        return found

    @staticmethod
    def _common_successes(stats: FloatArray) -> FloatArray | None:
        """Count the items on which both of two systems succeed, (systems, systems); None unless items are 0 or 1."""
        if stats.shape[2] != 2 or not (stats[..., 1] == 1).all():
            return None
        hits = stats[..., 0]
        if not ((hits == 0) | (hits == 1)).all():
            return None
        as_float = hits.astype(np.float64)
        found: FloatArray = as_float.T @ as_float
        return found

    @property
    def enough(self) -> bool:
        """Whether there are enough clusters for an interval."""
        return bool(self.clusters >= MIN_CLUSTERS)

    @property
    def covariance(self) -> FloatArray:
        """Jackknife covariance of the values, (systems, systems)."""
        found: FloatArray = np.atleast_2d(np.cov(self.pseudo, rowvar=False)) / len(self._sums)
        return found

    def score(self, system: int = 0) -> Interval:
        """Estimate the value of a system with its interval."""
        value, pseudo = float(self.values[system]), self.pseudo[:, system]
        if not self.enough or not np.isfinite(pseudo).all():
            return Interval(value, np.nan, np.nan)
        lower, upper = self.bounds
        within = lower <= value <= upper and np.isfinite(upper - lower)
        constant = _constant(pseudo, value) or (within and self._near_a_bound(system))
        if constant and not within:  # nothing is known about how much other clusters would differ
            return Interval(value, np.nan, np.nan)
        ends = []
        if within and (constant or self._successes is not None or self._all_or_nothing(system)):
            ends.append(self._wilson(value, system, constant))
        if not constant and not (ends and self._few_answers(system)):
            df = self._score_df
            ends += [test[1:] for test in (t_test(value, _error(pseudo), df), skewed_t_test(value, pseudo, df))]
        lower, upper = max(lower, min(end[0] for end in ends)), min(upper, max(end[1] for end in ends))
        return Interval(value, min(lower, value), max(upper, value))

    def _shares(self, system: int) -> FloatArray:
        """Return the value of each item as a share of the range, without items that have no value of their own."""
        lower, upper = self.bounds
        with np.errstate(all="ignore"):
            values = (self._value(self._stats[:, system].astype(np.float64)) - lower) / (upper - lower)
        found: FloatArray = values[np.isfinite(values)]
        return found

    def _near_a_bound(self, system: int) -> bool:
        """Return whether all items are nearly perfect, or nearly worthless; then the spread of others is unknown.

        Answers are often nearly right or quite wrong, so a sample without a wrong one doesn't show how rare they are.
        Single items say nothing about a corpus metric near zero: most sentences without a common 4-gram have BLEU 0.
        """
        shares = self._shares(system)
        if not len(shares):
            return False
        return bool(shares.min() > 1 - _NEAR or (self._is_mean and shares.max() < _NEAR))

    @property
    def _is_mean(self) -> bool:
        """Whether the metric is an amount divided by a count, so that its value is the mean over items."""
        return bool(self._stats.shape[2] == 2)

    def _all_or_nothing(self, system: int) -> bool:
        """Return whether items vary almost as much as right and wrong answers with the same mean would."""
        if not self._is_mean:
            return False
        shares = self._shares(system)
        mean = float(shares.mean()) if len(shares) else 0.0
        return bool(0 < mean < 1 and shares.var() > _BIMODAL * mean * (1 - mean))

    def _few_answers(self, system: int) -> bool:
        """Return whether a score interval alone does for right-or-wrong items: independent ones, or few of a kind.

        With few errors, most clusters have none and one has two: that's skewed, whatever the clusters have in common.
        """
        if self._successes is None:
            return False
        share = float(self._successes[system, system]) / self.items
        return bool(self.items == self.clusters or self.items * share * (1 - share) < _FEW_ANSWERS)

    @property
    def _df(self) -> int:
        return len(self._sums) - 1

    def _wilson(self, value: float, system: int, constant: bool) -> Bounds:
        """Compute a score interval for the share of the range, with the effective number of independent items.

        Right-or-wrong items count as one each at most. Others vary less than right and wrong answers with the same
        mean would, so each counts as more.
        """
        lower, upper = self.bounds
        share, pseudo = (value - lower) / (upper - lower), self.pseudo[:, system]
        size = float(len(pseudo))
        if not constant:
            variance = _error(pseudo) ** 2 / (upper - lower) ** 2
            spread = share * (1 - share)
            by_item = spread if self._successes is not None else min(spread, float(self._shares(system).var()))
            size = min(self.items / (by_item / spread), spread / variance)
        z = t_isf(LEVEL / 2, self._score_df)
        center = (share + z * z / (2 * size)) / (1 + z * z / size)
        half = z / (1 + z * z / size) * np.sqrt(share * (1 - share) / size + z * z / (4 * size * size))
        return lower + (upper - lower) * max(0.0, center - half), lower + (upper - lower) * min(1.0, center + half)

    def difference(self, left: int, right: int) -> Contrast:
        """Compare two systems: left minus right."""
        if (left, right) not in self._differences:
            self._differences[left, right] = self._compare(left, right)
        return self._differences[left, right]

    def _compare(self, left: int, right: int) -> Contrast:
        value = float(self.values[left] - self.values[right])
        pseudo = self.pseudo[:, left] - self.pseudo[:, right]
        if not self.enough or not np.isfinite(pseudo).all():
            return Contrast(value, np.nan, np.nan, np.nan, np.nan)
        error = _error(pseudo)
        span = self.bounds[1] - self.bounds[0]
        constant = _constant(pseudo, value)
        if constant and not np.isfinite(span):
            return Contrast(value, np.nan, np.nan, np.nan, np.nan)
        step = 0.0
        if np.isfinite(span) and (self._successes is not None or constant):
            test, size = self._paired_proportions(left, right, value, pseudo)
            tests, step = [test], span / size
        else:
            tests = [t_test(value, error, self._df), skewed_t_test(value, pseudo, self._df)]
        p = max(self._swap_p(left, right), *(test.p for test in tests))
        lower = max(-span, min(value, *(test.lower for test in tests)))
        upper = min(span, max(value, *(test.upper for test in tests)))
        if p >= LEVEL:
            lower, upper = min(lower, 0.0), max(upper, 0.0)
        return Contrast(value, lower, upper, p, error, step)

    @cached_property
    def _subsets(self) -> FloatArray:
        """Values of all systems on random subsets of the clusters, (subsets, systems)."""
        count = len(self._sums)
        flat = self._sums.reshape(count, -1)
        found = []
        for chosen in _subset_batches(count, self._seed):
            sums = (chosen @ flat).reshape(len(chosen), *self._sums.shape[1:])
            with np.errstate(all="ignore"):
                found.append(self._value(sums))
        values: FloatArray = np.concatenate(found)
        return values

    def _swap_p(self, left: int, right: int) -> float:
        """Compute the p-value of swapping the two systems on random clusters, all of them if there are few.

        Without a difference, systems are as likely to be swapped on a subset of the clusters as not. A swap changes the
        sign of the difference exactly if the subset alone has a difference of the other sign (Hartigan, 1969).
        """
        values = self._subsets[:, left] - self._subsets[:, right]
        known = np.isfinite(values)
        tie = TIE * max(1e-300, float(np.abs(values[known]).max(initial=0.0)))
        below = 1 + int((~known | (values <= tie)).sum())  # the empty subset counts against every claim
        above = 1 + int((~known | (values >= -tie)).sum())
        return min(1.0, 2 * min(below, above) / (len(values) + 1))

    def _paired_proportions(self, left: int, right: int, value: float, pseudo: FloatArray) -> tuple[TTest, float]:
        """Test a difference of paired proportions as if one more item of each kind had been seen.

        Where systems agree on every item, or every cluster says the same, the spread is unknown rather than zero.
        Independent items know their spread from the shares alone, so only what clusters add to it has the few degrees
        of freedom of clusters. Returns the effective number of independent items as well.
        """
        span = self.bounds[1] - self.bounds[0]
        size, share = float(len(pseudo)), value / span
        if self._successes is None:
            won, lost = max(share, 0.0), max(-share, 0.0)
        else:
            common = self._successes[left, right]
            won, lost = (self._successes[side, side] - common for side in (left, right))
            won, lost = won / self.items, lost / self.items
        df = float(self._df)
        if not _constant(pseudo, value):
            by_item = won + lost - share**2
            size = min(self.items, by_item / (_error(pseudo) / span) ** 2)
            df /= max(1e-9, 1 - size / self.items)
        padded = size + 2
        won, lost = (won * size + 1) / padded, (lost * size + 1) / padded
        error = np.sqrt((won + lost - (won - lost) ** 2) / padded)
        return t_test(span * (won - lost), span * error, df), size


class Family(NamedTuple):
    """Claims that share an error rate."""

    p: list[list[float]]
    """Adjusted p-value of each pair of each entry; NaN where there are too few clusters."""
    level: float
    """Level at which a single claim has to be significant, so that any false claim is as rare as LEVEL."""


def adjust_family(families: Sequence[tuple[Systems, Sequence[tuple[int, int]]]], seed: int = 0) -> Family:
    """Adjust the p-values of a family of claims, so that any false claim among them is as rare as the level.

    Step-down by the largest statistic over all claims, with the signs of the clusters flipped together; dependence
    between claims is therefore taken into account, and the number of draws doesn't limit the number of claims.

    Args:
        families: systems, one entry for each metric, with the pairs that are claimed to differ.
        seed: seed of the sign flips.
    """
    parts: list[FloatArray] = []
    owners: list[tuple[int, int]] = []
    adjusted = [[float("nan")] * len(pairs) for _, pairs in families]
    for number, (systems, pairs) in enumerate(families):
        known: npt.NDArray[np.bool_] = np.asarray(np.isfinite(systems.pseudo + systems.influence).all(axis=0))
        usable = [k for k, (i, j) in enumerate(pairs) if known[i] and known[j]]
        if not systems.enough or not usable:
            continue
        parts.append(_flipped(np.where(known, systems.influence, 0.0), [pairs[k] for k in usable], seed))
        owners += [(number, k) for k in usable]
    if not parts:
        return Family(adjusted, LEVEL)
    rows = max(len(part) for part in parts)
    statistics = np.hstack([_resized(part, rows) for part in parts])
    observed, drawn = statistics[0], statistics[1:]
    order = np.argsort(observed)
    largest = np.maximum.accumulate(drawn[:, order], axis=1)
    exceeding = (largest >= observed[order] * (1 - TIE)).sum(axis=0)
    p = (1 + exceeding) / (1 + len(drawn))
    p = np.maximum.accumulate(p[::-1])[::-1]  # a smaller statistic never has a smaller p-value
    for position, claim in enumerate(order):
        number, k = owners[claim]
        systems, pairs = families[number]
        adjusted[number][k] = max(float(p[position]), systems.difference(*pairs[k]).p)
    critical = float(np.quantile(drawn.max(axis=1), 1 - LEVEL))
    count = min(len(systems.pseudo) for systems, pairs in families if pairs and systems.enough)
    return Family(adjusted, min(LEVEL, _level_of(critical, count)))


def _level_of(statistic: float, count: int) -> float:
    """Convert a sum of signed clusters over the root of their squares to the two-sided level of a t-test."""
    squared = min(statistic**2, count * (1 - 1e-12))
    return float(2 * t_sf(statistic * np.sqrt((count - 1) / (count - squared)), count - 1))


def _resized(statistics: FloatArray, rows: int) -> FloatArray:
    """Repeat the drawn rows of an exact enumeration until there are as many as random draws."""
    if len(statistics) == rows:
        return statistics
    drawn = statistics[1:]
    repeats = -(-(rows - 1) // len(drawn))
    return np.vstack([statistics[:1], np.tile(drawn, (repeats, 1))[: rows - 1]])


def _flipped(influence: FloatArray, pairs: Sequence[tuple[int, int]], seed: int) -> FloatArray:
    """Compute the statistics of pairs with random signs of the clusters: (1 + flips, pairs), unflipped first."""
    count = len(influence)
    if count <= EXACT_CLUSTERS:
        signs = 1.0 - 2.0 * ((np.arange(2 ** (count - 1))[:, None] >> np.arange(count)) & 1)
    else:
        drawn = _draws(FAMILY_DRAWS, count, seed)
        signs = np.vstack([np.ones(count), 1.0 - 2.0 * drawn])
    left, right = (np.array(side) for side in zip(*pairs, strict=True))
    gram = influence.T @ influence
    size = gram[left, left] + gram[right, right] - 2 * gram[left, right]
    sums = signs @ influence
    scale = np.sqrt(np.where(size > TIE**2 * (gram[left, left] + gram[right, right]), size, np.inf))
    found: FloatArray = np.abs(sums[:, left] - sums[:, right]) / scale
    return found


def estimate(stats: FloatArray, clusters: Sequence[str], value: ValueOfSums, bounds: Bounds = UNBOUNDED) -> Interval:
    """Estimate one system's value with its interval.

    Args:
        stats: (items, k) additive statistics.
        clusters: cluster name of each item.
        value: turns sums (..., k) into values (...).
        bounds: smallest and largest possible value.
    """
    return Systems(np.asarray(stats, dtype=np.float64)[:, None, :], clusters, value, bounds).score()


def detectable(contrast: Contrast, clusters: int, level: float = LEVEL, power: float = 0.8) -> float:
    """Compute the minimum detectable difference from a measured one.

    Args:
        contrast: a difference measured on the same kind and number of items.
        clusters: independent clusters behind it.
        level: significance level of the two-sided test; that of a family for several claims.
        power: probability of detecting a difference of that size.

    Source: Cohen (1988), Statistical power analysis, with quantiles of the t-distribution and the actual width of the
    interval. Counts move in steps, so an exact test of proportions needs one step more.
    """
    df = max(1, clusters - 1)
    half = (contrast.ci_high - contrast.ci_low) / 2 * float(t_isf(level / 2, df) / t_isf(LEVEL / 2, df))
    return _RESERVE * (half + t_isf(1 - power, df) * contrast.error) + contrast.step


def family_interval(
    contrast: tuple[float, float, float], clusters: int, level: float, significant: bool
) -> tuple[float, float]:
    """Widen the interval of one difference to a family of claims; it excludes zero exactly if the claim is made.

    Args:
        contrast: value, lower and upper end of the 95% interval.
        clusters: independent clusters behind it.
        level: level of a single claim in the family.
        significant: whether the claim is significant in the family. A step-down procedure makes a claim whose interval
            would reach beyond zero; its end is then zero (Strassburger and Bretz, 2008).
    """
    value, lower, upper = contrast
    df = max(1, clusters - 1)
    factor = float(t_isf(level / 2, df) / t_isf(LEVEL / 2, df))
    lower, upper = value - factor * (value - lower), value + factor * (upper - value)
    if not significant:
        return min(lower, 0.0), max(upper, 0.0)
    return (max(lower, 0.0), upper) if value > 0 else (lower, min(upper, 0.0))


def min_clusters_for(claims: int = 1) -> int:
    """Return how many clusters a test needs at least, so that it can be significant among so many claims."""
    return max(MIN_CLUSTERS, int(np.floor(np.log2(2 * max(1, claims) / LEVEL))) + 1)


def _error(pseudo: FloatArray) -> float:
    return float(pseudo.std(ddof=1) / np.sqrt(len(pseudo)))


def _constant(pseudo: FloatArray, value: float) -> bool:
    """Return whether all clusters say the same, up to rounding."""
    return float(np.ptp(pseudo)) <= TIE * len(pseudo) * max(abs(value), float(np.abs(pseudo).max()), 1e-300)


@lru_cache(maxsize=2)
def _draws(rows: int, count: int, seed: int) -> npt.NDArray[np.int8]:
    """Draw zeros and ones, (rows, count); all metrics of a comparison share them."""
    return np.random.default_rng(seed).integers(0, 2, (rows, count), dtype=np.int8)


def _subset_batches(count: int, seed: int) -> list[FloatArray]:
    """Draw subsets of clusters as rows of zeros and ones; all non-empty ones of few clusters."""
    if count <= EXACT_CLUSTERS:
        return [((np.arange(1, 2**count)[:, None] >> np.arange(count)) & 1).astype(np.float64)]
    drawn = _draws(DRAWS, count, seed)
    rows = max(1, _BATCH // count)
    return [drawn[start : start + rows].astype(np.float64) for start in range(0, DRAWS, rows)]
