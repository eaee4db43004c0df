"""Confidence intervals of proportions."""

from __future__ import annotations

from math import sqrt

from scipy.stats import norm


def wilson(successes: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Compute Wilson's score interval of a proportion.

    Source: Wilson (1927), Probable inference, the law of succession, and statistical inference.
    """
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"wilson needs 0 <= successes <= n and n > 0, got {successes} of {n}")
    z = float(norm.ppf(0.5 + level / 2))
    rate = successes / n
    center = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    # Rounding never leaves the rate itself outside, at 0 and 1 above all.
    return max(0.0, min(rate, center - half)), min(1.0, max(rate, center + half))
