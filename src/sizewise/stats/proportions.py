"""Intervals of rates."""

from __future__ import annotations

from math import sqrt

from scipy.stats import norm


def rule_of_three(n: int) -> float:
    """Give the highest rate that fits with no case in n, at 95 % (one-sided): about 3 / n.

    Source: Hanley and Lippman-Hand (1983), If nothing goes wrong, is everything all right? In its exact form.
    """
    if n <= 0:
        raise ValueError(f"rule_of_three needs n > 0, got {n}")
    return float(1 - 0.05 ** (1 / n))


def wilson(successes: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Give Wilson's score interval of a rate.

    Source: Wilson (1927), Probable inference, the law of succession, and statistical inference.
    """
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"wilson needs 0 <= successes <= n and n > 0, got {successes} of {n}")
    z = float(norm.ppf(0.5 + level / 2))
    rate = successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
