"""Tests of a value against a bound other than zero, from its 95% interval: a minimum score, a tolerated loss."""

from __future__ import annotations

from scipy.stats import t as student_t

from sizewise.stats.inference import LEVEL


def p_beyond(interval: tuple[float, float, float], bound: float, clusters: int) -> float:
    """Compute the two-sided p-value of a bound from the half of the interval on its side.

    Args:
        interval: value, lower and upper end of the 95% interval.
        bound: what the value is tested against, in its unit.
        clusters: independent clusters behind it.
    """
    value, lower, upper = interval
    half = value - lower if bound < value else upper - value
    if value == bound:
        return 1.0
    if half <= 0:
        return 0.0 if lower == upper else 1.0
    return float(2 * student_t.sf(abs(value - bound) / half * _quantile(LEVEL, clusters), _df(clusters)))


def interval_at(interval: tuple[float, float, float], clusters: int, level: float) -> tuple[float, float]:
    """Widen a 95% interval to another level: it excludes a bound exactly if `p_beyond` is below that level."""
    value, lower, upper = interval
    factor = _quantile(level, clusters) / _quantile(LEVEL, clusters)
    return value - factor * (value - lower), value + factor * (upper - value)


def _df(clusters: int) -> int:
    return max(1, (clusters - 1) // 2)  # as for clusters of unequal size, whose number isn't in the record


def _quantile(level: float, clusters: int) -> float:
    return float(student_t.isf(level / 2, _df(clusters)))
