"""Rankings from votes: strengths, intervals and ranges of ranks."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
from scipy.special import expit

from sizewise.stats.ranking import Votes, bradley_terry, fit_strengths, linked, prior_wins, ranks_of, win_matrix


def simulated(rng: np.random.Generator, logs: np.ndarray, documents: int, raters: int, spread: float) -> Votes:
    """Draw votes on pairs, two raters on a document; the raters' tastes differ by `spread` logits."""
    items = len(logs)
    tastes = rng.normal(0, spread, (raters, items))
    left = np.repeat(rng.integers(0, items, documents), 2)
    right = (left + np.repeat(rng.integers(1, items, documents), 2)) % items
    first = rng.integers(0, raters, documents)
    rater = np.column_stack([first, (first + rng.integers(1, raters, documents)) % raters]).ravel()
    chance = expit(logs[left] + tastes[rater, left] - logs[right] - tastes[rater, right])
    return Votes(left, right, (rng.random(len(left)) < chance).astype(float), rater, np.arange(len(left)) // 2)


def test_intervals_cover_strengths_and_ranks() -> None:
    rng = np.random.default_rng(0)
    logs = np.array([0.0, 0.3, 0.6, 1.0])
    many = simulated(rng, logs, 300_000, 30_000, 0.5)
    truth = bradley_terry(win_matrix(many.left, many.right, many.share, 4))
    inside, ranked = [], []
    for _ in range(100):
        found = fit_strengths(simulated(rng, logs, 90, 6, 0.5), 4)
        inside += list((found.ci_low <= truth) & (truth <= found.ci_high))
        ranked.append(bool(((found.first <= ranks_of(truth)) & (ranks_of(truth) <= found.last)).all()))
    assert 0.92 <= np.mean(inside) <= 0.99
    assert np.mean(ranked) >= 0.95


def test_without_links_a_weak_prior_keeps_strengths_finite() -> None:
    wins = np.array([[0.0, 3.0], [0.0, 0.0]])
    assert not linked(wins)
    with pytest.raises(ValueError, match="chain of wins"):
        bradley_terry(wins)
    assert bradley_terry(wins + prior_wins(2)) == pytest.approx([3.5 / 4, 0.5 / 4])
    three = np.arange(30) % 3
    found = fit_strengths(Votes(three, (three + 1) % 3, np.full(30, 0.5), None, np.arange(30)), 3)
    assert found.strengths == pytest.approx([1 / 3] * 3)
    assert (found.first.tolist(), found.last.tolist()) == ([1] * 3, [3] * 3)
    assert ranks_of(found.strengths).tolist() == [1, 1, 1]


@pytest.mark.slow
def test_a_million_votes_fit_into_memory() -> None:
    rng = np.random.default_rng(0)
    votes, items = 1_500_000, 100
    left = rng.integers(0, items, votes)
    right = (left + rng.integers(1, items, votes)) % items
    share = (rng.random(votes) < expit(rng.normal(0, 1, items)[left])).astype(float)
    cast = Votes(left, right, share, rng.integers(0, 50_000, votes), rng.integers(0, 10**6, votes))
    tracemalloc.start()
    begun = time.perf_counter()
    found = fit_strengths(cast, items)
    assert time.perf_counter() - begun < 60
    assert tracemalloc.get_traced_memory()[1] < 2e9
    tracemalloc.stop()
    assert np.all((found.ci_low < found.strengths) & (found.strengths < found.ci_high))
