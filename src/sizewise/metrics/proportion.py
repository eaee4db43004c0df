"""Scores of proportions with Wilson's interval."""

from __future__ import annotations

from sizewise.records import Score
from sizewise.stats import wilson


def proportion_score(
    metric: str,
    successes: float,
    n: int,
    *,
    signature: str = "wilson",
    missing_reason: str = "no observations",
    value: float | None = None,
    clusters: int | None = None,
) -> Score:
    """Build the score of a proportion with its 95 % Wilson interval.

    Args:
        metric: name of the score.
        successes: how many of the n observations succeeded; fractional where a tie counts as one half.
        n: number of observations; with 0 the score has no value.
        signature: how the observations were counted.
        missing_reason: why there is no value, if n is 0.
        value: the proportion, where `successes` was derived from it; by default `successes / n`.
        clusters: independent source documents of the observations, where they were counted.
    """
    if n == 0:
        return Score(metric=metric, n=0, unit="share", signature=signature, missing_reason=missing_reason)
    ci_low, ci_high = wilson(successes, n)
    return Score(
        metric=metric,
        value=successes / n if value is None else value,
        ci_low=ci_low,
        ci_high=ci_high,
        n=n,
        unit="share",
        signature=signature,
        clusters=clusters,
    )
