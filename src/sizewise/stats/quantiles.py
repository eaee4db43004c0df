"""Intervals of quantiles by order statistics, without any assumption about the distribution.

An end that the sample can't provide is None: no value of 24 requests is an upper bound of their 95th percentile.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, binom
from scipy.stats import t as student_t

FloatArray = npt.NDArray[np.float64]


class QuantileInterval(NamedTuple):
    """A quantile with its interval; an end that doesn't exist is None."""

    value: float
    ci_low: float | None
    ci_high: float | None


def needed_for_quantile(share: float, level: float = 0.95) -> int:
    """Compute the smallest number of values at which both ends of a quantile's interval exist.

    For the 95th percentile at 95% confidence it is 72: 0.95 ** 72 is below 2.5%.
    """
    if not 0 < share < 1:
        raise ValueError(f"needed_for_quantile needs a share between 0 and 1, got {share}")
    return ceil(log((1 - level) / 2) / log(max(share, 1 - share)))


def quantile_interval(values: Sequence[float] | FloatArray, share: float, level: float = 0.95) -> QuantileInterval:
    """Compute a quantile of independent values, with the exact interval between two of their order statistics.

    Source: Conover (1999), Practical nonparametric statistics, section 3.2: the number of values up to the true
    quantile is binomial.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n, tail = len(ordered), (1 - level) / 2
    if n == 0:
        raise ValueError("quantile_interval needs at least one value")
    # P(at most r values lie below the quantile), for r = 0 ... n.
    below = binom.cdf(np.arange(n + 1), n, share)
    lower = int(np.searchsorted(below, tail, side="right")) - 1  # largest index whose value is a lower bound
    upper = int(np.searchsorted(below, 1 - tail, side="left"))  # smallest index whose value is an upper bound
    return QuantileInterval(
        float(np.quantile(ordered, share)),
        float(ordered[lower]) if lower >= 0 else None,
        float(ordered[upper]) if upper < n else None,
    )


def clustered_quantile_interval(
    groups: Sequence[Sequence[float]], share: float, level: float = 0.95
) -> QuantileInterval:
    """Compute a quantile of values that come in independent groups, such as the gaps between tokens of a request.

    The share of values up to the quantile has a variance between groups; it determines how many independent values they
    are worth, and the interval lies between the order statistics of that many. Memory grows with the number of values
    only.

    Source: Woodruff (1952), Confidence intervals for medians and other position measures; Korn and Graubard (1998),
    Confidence intervals for proportions with small expected number of positive counts estimated from survey data.
    """
    sizes = np.array([len(group) for group in groups if len(group)])
    if not len(sizes):
        raise ValueError("clustered_quantile_interval needs at least one value")
    values = np.concatenate([np.asarray(group, dtype=np.float64) for group in groups if len(group)])
    point, clusters = float(np.quantile(values, share)), len(sizes)
    if clusters < 2:
        return QuantileInterval(point, None, None)
    counts = np.add.reduceat(values <= point, np.r_[0, np.cumsum(sizes)[:-1]], dtype=np.float64)
    rate = counts.sum() / sizes.sum()
    variance = clusters / (clusters - 1) * float(np.square(counts - rate * sizes).sum()) / float(sizes.sum()) ** 2
    tail = (1 - level) / 2
    n = float(sizes.sum())
    if variance > 0:
        wider = (student_t.ppf(tail, clusters - 1) / student_t.ppf(tail, max(1.0, n - 1))) ** 2
        n = min(n, rate * (1 - rate) / variance / float(wider))
    n = max(n, 1.0)
    lower, upper = (
        float(x)
        for x in (beta.ppf(tail, share * n, (1 - share) * n + 1), beta.ppf(1 - tail, share * n + 1, (1 - share) * n))
    )
    ordered = np.sort(values)
    # As with n independent values: an end exists only if values beyond it are likely to have been seen.
    return QuantileInterval(
        point,
        float(np.quantile(ordered, lower)) if (1 - share) ** n <= tail else None,
        float(np.quantile(ordered, upper)) if share**n <= tail else None,
    )
