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


def blocks(rng: np.random.Generator, *pairs: tuple[int, int, list[int]]) -> Votes:
    """Draw votes without any preference in general; each pair has documents of given sizes, with effects of 1.5."""
    left, right, share, document = [], [], [], []
    for one, other, sizes in pairs:
        for size in sizes:
            chance = expit(rng.normal(0, 1.5))
            left += [one] * size
            right += [other] * size
            share += list((rng.random(size) < chance).astype(float))
            document += [len(set(document))] * size
    raters = rng.integers(0, 5, len(left))
    return Votes(np.array(left), np.array(right), np.array(share), raters, np.array(document))


MANY = [2] * 60


@pytest.mark.parametrize(
    ("pairs", "items"),
    [
        ([(0, 1, MANY), (2, 0, [25])], 3),
        ([(0, 1, MANY), (2, 0, [25] * 3)], 3),
        ([(0, 1, MANY), (2, 0, [100, *[5] * 12])], 3),
        ([(0, 1, MANY), (1, 2, [50]), (2, 3, MANY)], 4),
        ([(0, 1, [6] * 8), (1, 2, [6] * 8), (2, 0, [6] * 8)], 3),
    ],
    ids=["one document", "three documents", "one large document", "linked by one document", "eight documents each"],
)
def test_ranks_rest_on_enough_documents_behind_each_difference(
    pairs: list[tuple[int, int, list[int]]], items: int
) -> None:
    rng = np.random.default_rng(3)
    wrong = 0
    for _ in range(80):
        found = fit_strengths(blocks(rng, *pairs), items)
        wrong += bool((found.first > 1).any() or (found.last < items).any())
    assert wrong / 80 <= 0.06


def test_a_difference_counts_the_documents_of_its_own_votes() -> None:
    # The third item won 50 votes on few documents; the first two are compared on 200.
    for documents, claimed in ((1, False), (7, False), (50, True)):
        third = np.repeat([2], 50)
        left = np.concatenate([np.zeros(200, dtype=int), third])
        right = np.concatenate([np.ones(200, dtype=int), np.zeros(50, dtype=int)])
        share = np.concatenate([np.arange(200) % 2, np.ones(50)]).astype(float)
        places = np.concatenate([np.arange(200), 200 + np.arange(50) % documents])
        found = fit_strengths(Votes(left, right, share, None, places), 3)
        assert (found.last[2] == 1) == claimed
        assert found.certain[2] == claimed
        assert (found.first[:2] == 1).all() != claimed
    # Two pairs that no votes link are never ranked.
    apart = np.concatenate([np.zeros(100, dtype=int), np.full(100, 2)])
    found = fit_strengths(Votes(apart, apart + 1, np.ones(200), None, np.arange(200)), 4)
    assert (found.first.tolist(), found.last.tolist()) == ([1, 2, 1, 2], [3, 4, 3, 4])
