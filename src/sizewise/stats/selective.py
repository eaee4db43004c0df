"""Selective decisions: how many cases a model may decide itself, so that at most a stated share of them is wrong.

A model decides the cases whose confidence reaches a threshold and hands over the rest. The threshold is chosen so that,
with 95 % confidence, the risk (the mean loss of the decided cases) is at most the stated one. Thresholds are tested in
a fixed order, from the strictest to the loosest; because the risk needn't grow with the coverage, the level is shared
by several starting points, and a passed test hands its level on to the next threshold.

Items of one cluster (equal prompts, questions about one document) are one observation. Two proportions have to pass:
the mean over clusters, which applies to new cases, and the mean over items, which applies if cases repeat as often as
in the sample.

Sources: Geifman and El-Yaniv (2017), Selective classification for deep neural networks; Angelopoulos, Bates, Candès,
Jordan and Lei (2021), Learn then test, with its Hoeffding-Bentkus p-value; Wiens (2003), A fixed sequence Bonferroni
procedure for testing multiple endpoints; Clopper and Pearson (1934); Kish (1965), Survey sampling, for the effective
number of items in clusters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, rel_entr
from scipy.stats import beta
from scipy.stats import t as student

from sizewise.stats.inference import MIN_CLUSTERS

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

LEVEL = 0.05
"""Probability that a chosen threshold exceeds the stated risk."""
STARTS = 4
"""Starting points among which the level is shared."""
MAX_GROUPS = 200
"""Groups of clusters of which the jackknife leaves one out."""
_TIE = 1e-9


class Coverage(NamedTuple):
    """What a model decides at one threshold, measured on the items the threshold was chosen on."""

    threshold: float
    """An item is decided if its confidence is at least this."""
    coverage: float
    """Share of the items that are decided."""
    risk: float
    """Mean loss of the decided items; the larger of the mean over items and the mean over clusters."""
    risk_upper: float
    """Upper 95 % confidence bound of that risk, at this threshold alone."""
    decided: int
    """Number of decided items."""
    clusters: int
    """Number of clusters with a decided item."""


class RiskCoverage(NamedTuple):
    """Risk at every coverage, from the most confident item on."""

    thresholds: FloatArray
    """(points,) distinct confidences in descending order."""
    coverage: FloatArray
    """(points,) share of items with at least this confidence."""
    risk: FloatArray
    """(points,) mean loss of these items."""

    @property
    def area(self) -> float:
        """Area under the curve (AURC): the mean risk over all coverages; lower is better."""
        return float(np.average(self.risk, weights=np.diff(self.coverage, prepend=0.0)))


def risk_coverage(confidence: FloatArray, loss: FloatArray) -> RiskCoverage:
    """Compute the risk-coverage curve.

    Args:
        confidence: (items,) confidence in each decision.
        loss: (items,) loss of each decision, from 0 to 1; 1 where it is wrong.
    """
    order, ends = _sorted_ends(confidence)
    totals = np.cumsum(loss[order])
    return RiskCoverage(confidence[order][ends], (ends + 1) / len(confidence), totals[ends] / (ends + 1))


def area_interval(
    confidence: FloatArray, loss: FloatArray, clusters: Sequence[str] | IntArray | None = None
) -> tuple[float, float, float]:
    """Compute the area under the risk-coverage curve with its 95 % interval over clusters.

    The error is that of the jackknife that leaves out one cluster at a time, or one of MAX_GROUPS groups of clusters,
    with a t interval.

    Args:
        confidence: (items,) confidence in each decision.
        loss: (items,) loss of each decision, from 0 to 1.
        clusters: cluster of each item; None: every item is independent.

    Returns:
        The area, and the ends of the interval; these are NaN with fewer than MIN_CLUSTERS clusters.
    """
    index = _number(clusters, len(loss))
    area = risk_coverage(confidence, loss).area
    count = int(index.max()) + 1
    if count < MIN_CLUSTERS:
        return area, math.nan, math.nan
    groups = index % min(count, MAX_GROUPS)
    number = int(groups.max()) + 1
    without = np.array([risk_coverage(confidence[groups != i], loss[groups != i]).area for i in range(number)])
    error = math.sqrt((number - 1) / number * float(np.square(without - without.mean()).sum()))
    half = float(student.ppf(1 - LEVEL / 2, number - 1)) * error
    return area, max(0.0, area - half), min(1.0, area + half)


def choose_coverage(
    confidence: FloatArray,
    loss: FloatArray,
    max_risk: float,
    clusters: Sequence[str] | IntArray | None = None,
    level: float = LEVEL,
) -> Coverage | None:
    """Choose the threshold with the largest coverage whose risk is at most the stated one.

    Args:
        confidence: (items,) confidence in each decision, of items that the model was not trained on.
        loss: (items,) loss of each decision, from 0 to 1; 1 where it is wrong.
        max_risk: largest acceptable mean loss of the decided items.
        clusters: cluster of each item; None: every item is independent.
        level: probability of exceeding the risk nevertheless.

    Returns:
        None if no threshold passes the test.

    Raises:
        ValueError: the arrays differ in length, or a value is out of range.
    """
    confidence, loss = np.asarray(confidence, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    _check(confidence, loss, max_risk)
    index = _number(clusters, len(loss))
    order, ends = _sorted_ends(confidence)
    running = _run(loss[order], index[order])
    ends = ends[(1 - max_risk) ** running.clusters[ends] <= level / STARTS]  # known without the losses
    if not len(ends):
        return None
    p_values = running.p_values(max_risk)
    starts = set(_starts(ends).tolist())
    chosen, carried = None, 0.0
    for end in ends.tolist():
        available = carried + (level / STARTS if end in starts else 0.0)
        carried = available if available > 0 and p_values[end] <= available else 0.0
        chosen = end if carried else chosen
    return None if chosen is None else running.describe(chosen + 1, float(confidence[order][chosen]))


def choose_share(
    confidence: FloatArray,
    loss: FloatArray,
    max_risk: float,
    clusters: Sequence[str] | IntArray | None = None,
    level: float = LEVEL,
) -> Coverage | None:
    """Choose the lowest threshold at which the decided items lose at most the stated risk, as a mean over all items.

    Items that aren't decided lose nothing, so the risk only grows with the coverage, and thresholds are tested from the
    strictest on at the full level (Bates, Angelopoulos, Lei, Malik and Jordan, 2021, Distribution-free,
    risk-controlling prediction sets).

    Args:
        confidence: (items,) confidence in each decision, of items that the model was not trained on.
        loss: (items,) loss of each decision, from 0 to 1.
        max_risk: largest acceptable loss, as a mean over all items.
        clusters: cluster of each item; None: every item is independent.
        level: probability of exceeding the risk nevertheless.

    Returns:
        None if no threshold passes the test.

    Raises:
        ValueError: the arrays differ in length, or a value is out of range.
    """
    confidence, loss = np.asarray(confidence, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    _check(confidence, loss, max_risk)
    index = _number(clusters, len(loss))
    order, ends = _sorted_ends(confidence)
    running = _run_over_all(loss[order], index[order])
    passed = running.p_values(max_risk)[ends] <= level
    count = len(passed) if passed.all() else int(np.argmin(passed))
    return None if not count else running.describe(int(ends[count - 1]) + 1, float(confidence[order][ends[count - 1]]))


def risk_at(
    threshold: float,
    confidence: FloatArray,
    loss: FloatArray,
    clusters: Sequence[str] | IntArray | None = None,
) -> Coverage | None:
    """Measure coverage and risk at a threshold that was chosen on other items; None if no item is decided."""
    confidence, loss = np.asarray(confidence, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    _check(confidence, loss, 0.5)
    index = _number(clusters, len(loss))
    order = np.argsort(-confidence, kind="stable")
    decided = int((confidence >= threshold).sum())
    if not decided:
        return None
    return _run(loss[order], index[order]).describe(decided, threshold)


def exceedance_p(total: npt.ArrayLike, count: npt.ArrayLike, risk: float, binary: bool = True) -> FloatArray:
    """Test whether the mean of independent losses is below a risk: p-value of the hypothesis that it is not.

    Args:
        total: (...) sum of the losses.
        count: (...) number of independent losses; may be an effective number.
        risk: mean loss under the hypothesis.
        binary: whether every loss is 0 or 1, so that the binomial distribution is exact; otherwise the
            Hoeffding-Bentkus bound for losses from 0 to 1 applies.

    Returns:
        (...) p-values.
    """
    total, count = np.asarray(total, dtype=np.float64), np.asarray(count, dtype=np.float64)
    mean = np.clip(total / count, 0.0, risk)
    if binary:
        p = _binomial_cdf(total, count, risk)
    else:
        divergence = rel_entr(mean, risk) + rel_entr(1 - mean, 1 - risk)
        p = np.minimum(np.exp(-count * divergence), math.e * _binomial_cdf(np.ceil(total - _TIE), count, risk))
    found: FloatArray = np.where(total >= count * risk, 1.0, np.minimum(p, 1.0))
    return found


def risk_upper_bound(total: float, count: float, binary: bool = True, level: float = LEVEL) -> float:
    """Compute the one-sided upper confidence bound of a mean loss that belongs to `exceedance_p`."""
    if count <= 0 or total >= count:
        return 1.0
    if binary:
        return float(beta.ppf(1 - level, total + 1, count - total))
    lower, upper = total / count, 1.0
    for _ in range(50):
        middle = (lower + upper) / 2
        inside = middle < 1 and float(exceedance_p(total, count, middle, binary)) > level
        lower, upper = (middle, upper) if inside else (lower, middle)
    return upper


def min_decided_for(risk: float, level: float = LEVEL) -> int:
    """Compute how many decided items without an error a risk needs at least, with the level shared by the starts."""
    return math.ceil(math.log(level / STARTS) / math.log(1 - risk))


def _binomial_cdf(total: FloatArray, count: FloatArray, risk: float) -> FloatArray:
    """Compute the probability of at most so many errors, also for a fractional number of items."""
    found: FloatArray = np.where(total >= count, 1.0, betainc(np.maximum(count - total, _TIE), total + 1, 1 - risk))
    return found


def _check(confidence: FloatArray, loss: FloatArray, max_risk: float) -> None:
    if confidence.shape != loss.shape or loss.ndim != 1 or not len(loss):
        raise ValueError(f"need one confidence and one loss per item, got {confidence.shape} and {loss.shape}")
    if not np.isfinite(confidence).all() or not ((loss >= 0) & (loss <= 1)).all():
        raise ValueError("confidences must be finite, and losses between 0 and 1")
    if not 0 < max_risk < 1:
        raise ValueError(f"the risk must be between 0 and 1, got {max_risk}")


def _number(clusters: Sequence[str] | IntArray | None, count: int) -> IntArray:
    """Number the clusters from 0 without gaps: (items,)."""
    if clusters is None:
        return np.arange(count, dtype=np.int64)
    if len(clusters) != count:
        raise ValueError(f"need one cluster per item, got {len(clusters)} for {count} items")
    names = clusters if isinstance(clusters, np.ndarray) else np.array([str(name) for name in clusters])
    found: IntArray = np.unique(names, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return found


def _sorted_ends(confidence: FloatArray) -> tuple[IntArray, IntArray]:
    """Sort items by descending confidence, and find the last position of each distinct confidence."""
    order = np.argsort(-confidence, kind="stable")
    ends = np.flatnonzero(np.diff(confidence[order], append=-np.inf))
    return order.astype(np.int64), ends.astype(np.int64)


def _starts(ends: IntArray) -> IntArray:
    """Pick the starting points, evenly spaced by the logarithm of the number of decided items."""
    wanted = np.geomspace(ends[0] + 1, ends[-1] + 1, STARTS + 1)[:-1] - 1
    found: IntArray = ends[np.searchsorted(ends, np.floor(wanted + _TIE))]
    return found


class _Running(NamedTuple):
    """Totals while more and more items are decided, (items,) each."""

    means: FloatArray
    """Sum of the mean losses of the clusters."""
    clusters: FloatArray
    """Number of clusters with a decided item."""
    risk: FloatArray
    """Mean loss of the items."""
    effective: FloatArray
    """Effective number of items if those of a cluster say the same (Kish); equal clusters: their number."""
    binary: bool
    """Whether each cluster is one trial that succeeds or fails."""

    def p_values(self, risk: float) -> FloatArray:
        """Test at each number of decided items whether the risk is below a stated one."""
        by_cluster = exceedance_p(self.means, self.clusters, risk, self.binary)
        by_item = exceedance_p(self.risk * self.effective, self.effective, risk)
        return np.maximum(by_cluster, by_item)

    def describe(self, decided: int, threshold: float) -> Coverage:
        """Describe the decision on the first so many items."""
        last = decided - 1
        means, clusters, risk = float(self.means[last]), float(self.clusters[last]), float(self.risk[last])
        effective = float(self.effective[last])
        upper = max(risk_upper_bound(means, clusters, self.binary), risk_upper_bound(risk * effective, effective))
        return Coverage(
            threshold, decided / len(self.risk), max(risk, means / clusters), upper, decided, round(clusters)
        )


def _run(loss: FloatArray, index: IntArray) -> _Running:
    """Compute the running totals of sorted items.

    Args:
        loss: (items,) losses, the most confident item first.
        index: (items,) number of each item's cluster.
    """
    by_cluster = np.argsort(index, kind="stable")
    sizes = np.bincount(index)
    begin = np.repeat(np.cumsum(sizes) - sizes, sizes)
    sorted_loss = loss[by_cluster]
    before = np.concatenate([[0.0], np.cumsum(sorted_loss)])
    nth = np.empty(len(loss))
    nth[by_cluster] = np.arange(len(loss)) - begin + 1
    mean = (before[1:] - before[begin]) / (np.arange(len(loss)) - begin + 1)
    change = np.empty(len(loss))
    change[by_cluster] = np.where(np.arange(len(loss)) == begin, mean, mean - np.concatenate([[0.0], mean[:-1]]))
    count = np.arange(1, len(loss) + 1)
    return _Running(
        np.maximum(np.cumsum(change), 0.0),
        np.cumsum(nth == 1).astype(np.float64),
        np.cumsum(loss) / count,
        count**2 / np.cumsum(2 * nth - 1),
        _is_binary(loss, index),
    )


def _run_over_all(loss: FloatArray, index: IntArray) -> _Running:
    """Compute the running totals of sorted items as means over all items, decided or not."""
    count, sizes = len(loss), np.bincount(index)
    return _Running(
        np.cumsum(loss / sizes[index]),
        np.full(count, float(len(sizes))),
        np.cumsum(loss) / count,
        np.full(count, float(effective_items(index))),
        _is_binary(loss, index),
    )


def effective_items(index: IntArray) -> float:
    """Compute the effective number of items if those of a cluster say the same; equal clusters: their number."""
    sizes = np.bincount(index).astype(np.float64)
    return float(sizes.sum() ** 2 / np.square(sizes).sum())


def _is_binary(loss: FloatArray, index: IntArray) -> bool:
    """Return whether every loss is 0 or 1 and the items of a cluster never differ, so that a cluster is one trial."""
    wrong = np.bincount(index, loss)
    return bool(((loss == 0) | (loss == 1)).all() and ((wrong == 0) | (wrong == np.bincount(index))).all())
