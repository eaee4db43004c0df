"""Intervals of quantiles hold at the stated confidence, and an end that the sample can't provide is absent."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy.stats import norm

from sizewise.stats.quantiles import clustered_quantile_interval, needed_for_quantile, quantile_interval


def holds(low: float | None, high: float | None, truth: float) -> bool:
    return (low is None or low <= truth) and (high is None or high >= truth)


def test_order_statistics_of_a_median_match_published_tables() -> None:
    # Conover (1999), table A4: six values -> first and sixth; ten -> second and ninth; 20 -> sixth and fifteenth.
    for n, low, high in ((6, 1, 6), (10, 2, 9), (20, 6, 15)):
        found = quantile_interval(np.arange(1.0, n + 1), 0.5)
        assert (found.ci_low, found.ci_high) == (low, high)
    assert quantile_interval([1.0, 2.0, 3.0, 4.0, 5.0], 0.5)[1:] == (None, None)


def test_the_upper_end_of_p95_needs_72_values() -> None:
    assert needed_for_quantile(0.95) == 72
    assert needed_for_quantile(0.5) == 6
    assert quantile_interval(np.arange(71.0), 0.95).ci_high is None
    assert quantile_interval(np.arange(72.0), 0.95).ci_high == 71
    assert quantile_interval(np.arange(24.0), 0.95).ci_low is not None


@pytest.mark.parametrize(("n", "share"), [(12, 0.5), (24, 0.95), (72, 0.95), (200, 0.95)])
def test_quantile_intervals_cover_at_least_95_percent(n: int, share: float) -> None:
    rng = np.random.default_rng(n)
    truth = float(norm.ppf(share))
    found = [quantile_interval(rng.normal(size=n), share) for _ in range(800)]
    assert np.mean([holds(one.ci_low, one.ci_high, truth) for one in found]) >= 0.935


def test_gaps_of_one_request_do_not_count_as_independent() -> None:
    rng = np.random.default_rng(1)

    def draw(requests: int) -> np.ndarray:
        return np.exp(0.8 * rng.normal(size=(requests, 1))) * rng.exponential(size=(requests, 40))

    truth = float(np.quantile(draw(60_000), 0.95))
    clustered, naive = [], []
    for _ in range(250):
        gaps = draw(60)
        one = clustered_quantile_interval(list(gaps), 0.95)
        clustered.append(holds(one.ci_low, one.ci_high, truth))
        two = quantile_interval(gaps.ravel(), 0.95)
        naive.append(holds(two.ci_low, two.ci_high, truth))
    assert np.mean(clustered) >= 0.9
    assert np.mean(naive) <= 0.6


def test_memory_does_not_grow_with_rounds_of_resampling() -> None:
    gaps = np.random.default_rng(0).exponential(size=(4000, 64))
    tracemalloc.start()
    clustered_quantile_interval(list(gaps), 0.95)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * gaps.nbytes


def test_few_requests_with_gaps_have_no_interval() -> None:
    assert clustered_quantile_interval([[0.1, 0.2]], 0.95)[1:] == (None, None)
    with pytest.raises(ValueError, match="at least one value"):
        clustered_quantile_interval([[]], 0.95)
