"""Statistical power of a test set."""

from __future__ import annotations

from math import ceil

from scipy.stats import norm


def detectable_difference(
    ci_low: float, ci_high: float, level: float = 0.05, power: float = 0.8, claims: int = 1
) -> float:
    """Compute the minimum detectable difference from the interval of a measured difference.

    Args:
        ci_low: lower end of the interval at confidence 1 - level.
        ci_high: its upper end.
        level: significance level of the two-sided test.
        power: probability of detecting a difference of that size.
        claims: number of tests that share the level (Bonferroni).

    Source: Cohen (1988), Statistical power analysis, with the normal approximation.
    """
    half = float(norm.ppf(1 - level / 2))
    error = (ci_high - ci_low) / (2 * half)
    return (float(norm.ppf(1 - level / claims / 2)) + float(norm.ppf(power))) * error


def needed_for(difference: float, detectable: float, n: int) -> int:
    """Compute the total number of items needed to detect a difference, given that n items detect `detectable`.

    The standard error falls with the square root of n. With few source documents, count documents rather than items.
    """
    if difference == 0 or detectable <= 0:
        raise ValueError(f"needed_for takes difference != 0 and detectable > 0, not {difference} and {detectable}")
    return max(n, ceil(n * (detectable / difference) ** 2))
