from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test

from sizewise.stats.permutation import EXACT_CLUSTERS, FloatArray, sign_flip_p


def mean(sums: FloatArray) -> FloatArray:
    result: FloatArray = sums[..., 0] / sums[..., 1]
    return result


def test_it_agrees_with_scipy() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.normal(0.6, 1, 9), rng.normal(0, 1, 9)
    known = permutation_test(
        (left, right), lambda a, b, axis: (a - b).mean(axis=axis), permutation_type="samples", vectorized=True
    )
    ones = np.ones(9)
    found = sign_flip_p(np.stack([left, ones], axis=1), np.stack([right, ones], axis=1), mean)
    assert found == pytest.approx(known.pvalue)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=8))
@settings(max_examples=50)
def test_it_counts_all_assignments(pairs: list[tuple[int, int]]) -> None:
    counts = np.arange(1, len(pairs) + 1)  # clusters of different size
    left = np.array([[one * n, n] for (one, _), n in zip(pairs, counts, strict=True)], dtype=float)
    right = np.array([[other * n, n] for (_, other), n in zip(pairs, counts, strict=True)], dtype=float)
    apart = []
    for flips in product((False, True), repeat=len(pairs)):
        swap = np.array(flips)[:, None]
        first, second = np.where(swap, right, left).sum(axis=0), np.where(swap, left, right).sum(axis=0)
        apart.append(abs(float(mean(first) - mean(second))))
    expected = np.mean(np.array(apart) >= apart[0] * (1 - 1e-9))
    assert sign_flip_p(left, right, mean) == pytest.approx(expected)


def test_equal_clusters_and_many_clusters() -> None:
    ones = np.ones((5, 2))
    assert sign_flip_p(ones, ones, mean) == 1
    many = np.ones((EXACT_CLUSTERS + 7, 2))
    assert sign_flip_p(many, many * [0, 1], mean) == 2.0 ** (1 - len(many))


def test_one_giant_document_among_many_shows_nothing() -> None:
    rng = np.random.default_rng(0)
    alarms = 0
    for seed in range(200):
        sizes = np.array([40.0, *[2.0] * 19])
        left, right = (np.stack([rng.normal(0, 1, 20) * sizes, sizes], axis=1) for _ in range(2))
        alarms += sign_flip_p(left, right, mean, seed) < 0.005
    assert alarms <= 5
