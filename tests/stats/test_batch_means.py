"""Intervals of throughput hold the long-run rate of users who wait for their answers."""

from __future__ import annotations

import heapq

import numpy as np
import pytest

from sizewise.stats.batch_means import rate_interval


def closed_loop(users: int, requests: int, rng: np.random.Generator) -> np.ndarray:
    """Simulate users who send the next request once the last is answered; return when each answer ended."""
    running = [float(one) for one in rng.exponential(size=users)]
    heapq.heapify(running)
    ends = []
    for number in range(requests):
        now = heapq.heappop(running)
        ends.append(now)
        if number + users < requests:
            heapq.heappush(running, now + rng.exponential())
    return np.array(ends)


@pytest.mark.parametrize(("users", "requests"), [(1, 24), (4, 96)])
def test_the_interval_covers_the_long_run_rate(users: int, requests: int) -> None:
    rng = np.random.default_rng(users)
    hits = 0
    for _ in range(400):
        found = rate_interval(np.ones(requests), closed_loop(users, requests, rng), users)
        assert found is not None
        hits += found[0] <= users <= found[1]
    assert 0.9 <= hits / 400 <= 0.99


def test_users_in_step_have_an_exact_rate_and_few_rounds_none() -> None:
    together = np.repeat(np.arange(1.0, 5.0), 8)  # eight users, four rounds of one second
    found = rate_interval(np.ones(32), together, 8)
    assert found == pytest.approx((8, 8))
    assert rate_interval(np.ones(24), together[:24], 8) is None
    assert rate_interval(np.ones(8), np.zeros(8)) is None
