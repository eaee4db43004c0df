"""What a test set can show."""

from __future__ import annotations

from math import ceil

from scipy.stats import norm


def detectable_difference(
    ci_low: float, ci_high: float, level: float = 0.05, power: float = 0.8, claims: int = 1
) -> float:
    """Give the least true difference that is shown with some power, from the interval of a measured one.

    Args:
        ci_low: lower end of the interval at confidence 1 - level.
        ci_high: its upper end.
        level: of the two-sided test.
        power: share of cases in which a difference of that size is shown.
        claims: number of tests that the level is shared out among (Bonferroni).

    Source: Cohen (1988), Statistical power analysis, with the normal approximation.
    """
    half = float(norm.ppf(1 - level / 2))
    error = (ci_high - ci_low) / (2 * half)
    return (float(norm.ppf(1 - level / claims / 2)) + float(norm.ppf(power))) * error


def needed_for(difference: float, detectable: float, n: int) -> int:
    """Give how many items it takes in all to show a difference, where n show one of `detectable`.

    The error falls with the square root of the number; with few source documents it is those that must be more.
    """
    if difference == 0 or detectable <= 0:
        raise ValueError(f"needs a difference other than 0 and detectable > 0, got {difference} and {detectable}")
    return max(n, ceil(n * (detectable / difference) ** 2))
