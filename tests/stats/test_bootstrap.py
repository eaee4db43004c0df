from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from sizewise.stats import interval
from sizewise.stats.bootstrap import FloatArray, cluster_sums, paired_difference, resampled_sums


def ratio(sums: FloatArray) -> FloatArray:
    result: FloatArray = sums[..., 0] / sums[..., 1]
    return result


def test_resamples_are_of_the_same_size() -> None:
    ones = resampled_sums(np.eye(7), 100, 0)
    assert ones.shape == (100, 7)
    assert (ones.sum(axis=1) == 7).all()
    assert ones.mean() == pytest.approx(1)
    assert ones.var() == pytest.approx(6 / 7, rel=0.2)


def test_resamples_do_not_depend_on_what_is_summed() -> None:
    stats = np.random.default_rng(0).normal(size=(50, 3))
    apart = np.hstack([resampled_sums(stats[:, [i]], 300, 4) for i in range(3)])
    assert resampled_sums(stats, 300, 4) == pytest.approx(apart)


def test_interval_agrees_with_scipy_on_single_item_clusters() -> None:
    values = np.random.default_rng(1).normal(5, 2, 60)
    stats = np.stack([values, np.ones(60)], axis=1)
    found = interval(stats, [str(i) for i in range(60)], ratio, rounds=20_000)
    known = scipy_stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, random_state=0)
    assert found.value == pytest.approx(values.mean())
    assert found.ci_low == pytest.approx(known.confidence_interval.low, abs=0.03)
    assert found.ci_high == pytest.approx(known.confidence_interval.high, abs=0.03)


def test_clusters_widen_the_interval() -> None:
    rng = np.random.default_rng(2)
    group = np.repeat(rng.normal(0, 1, 10), 20)
    stats = np.stack([group + rng.normal(0, 0.1, 200), np.ones(200)], axis=1)
    apart = interval(stats, [str(i) for i in range(200)], ratio)
    together = interval(stats, [str(i // 20) for i in range(200)], ratio)
    assert together.ci_high - together.ci_low > 2 * (apart.ci_high - apart.ci_low)


def test_intervals_of_clustered_data_cover_the_truth() -> None:
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        values = np.repeat(rng.normal(3, 1, 30), 5) + rng.normal(0, 1, 150)
        stats = np.stack([values, np.ones(150)], axis=1)
        found = interval(stats, [str(i // 5) for i in range(150)], ratio, rounds=500, seed=seed)
        covered += found.ci_low <= 3 <= found.ci_high
    assert 0.88 <= covered / 200 <= 0.99


@given(st.lists(st.floats(0, 100), min_size=2, max_size=30), st.randoms())
def test_a_total_does_not_depend_on_order(values: list[float], rng: object) -> None:
    stats = np.array([[value, 1.0] for value in values])
    order = np.random.default_rng(0).permutation(len(values))
    names = [f"{i % 3}" for i in range(len(values))]
    one = interval(stats, names, ratio, rounds=50)
    other = interval(stats[order], [names[i] for i in order], ratio, rounds=50)
    assert one == pytest.approx(other)


def test_a_single_cluster_has_no_interval() -> None:
    found = interval(np.array([[1.0, 1.0], [3.0, 1.0]]), ["a", "a"], ratio)
    assert found.value == 2
    assert np.isnan(found.ci_low)


def test_a_system_does_not_differ_from_itself() -> None:
    stats = np.random.default_rng(0).random((40, 2)) + 1
    names = [str(i) for i in range(40)]
    difference, p = paired_difference(stats, stats, names, ratio, rounds=500)
    assert difference == (0, 0, 0)
    assert p == 1


def test_false_alarms_stay_near_the_level() -> None:
    alarms = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        left, right = rng.normal(0, 1, (40, 1)), rng.normal(0, 1, (40, 1))
        ones = np.ones((40, 1))
        _, p = paired_difference(
            np.hstack([left, ones]), np.hstack([right, ones]), [str(i) for i in range(40)], ratio, 500, seed
        )
        alarms += p < 0.05
    assert alarms / 300 < 0.09


@pytest.mark.parametrize("clusters", [2, 3, 5, 8, 20])
def test_few_clusters_raise_no_more_false_alarms(clusters: int) -> None:
    alarms = 0
    for seed in range(200):
        effect = np.random.default_rng(seed).normal(0, 1, (clusters, 1))
        left = np.hstack([effect, np.ones((clusters, 1))])
        right = np.hstack([np.zeros((clusters, 1)), np.ones((clusters, 1))])
        _, p = paired_difference(left, right, [str(i) for i in range(clusters)], ratio, 500, seed)
        alarms += p < 0.05
    assert alarms / 200 <= 0.09


@pytest.mark.parametrize(("clusters", "p"), [(2, 0.5), (3, 0.25), (5, 0.0625), (6, 0.03125), (30, 2.0**-29)])
def test_unanimous_clusters_have_the_p_value_of_the_sign_test(clusters: int, p: float) -> None:
    ones, names = np.ones((clusters, 1)), [str(i) for i in range(clusters)]
    found, measured = paired_difference(np.hstack([ones, ones]), np.hstack([0 * ones, ones]), names, ratio, 500)
    assert found.value == 1
    assert measured == pytest.approx(p)


@pytest.mark.parametrize("clusters", [2, 4, 8, 15, 40])
@pytest.mark.parametrize("per_cluster", [1, 4])
def test_equal_systems_that_are_right_or_wrong_seldom_differ(clusters: int, per_cluster: int) -> None:
    alarms, rng = 0, np.random.default_rng(3)
    names = [str(i // per_cluster) for i in range(clusters * per_cluster)]
    ones = np.ones((len(names), 1))
    for seed in range(200):
        left, right = (rng.random((2, len(names), 1)) < 0.8).astype(float)
        _, p = paired_difference(np.hstack([left, ones]), np.hstack([right, ones]), names, ratio, 50, seed)
        alarms += p < 0.05
    assert alarms / 200 <= 0.09


def test_the_p_value_of_a_clear_difference_has_no_floor_of_rounds() -> None:
    rng = np.random.default_rng(0)
    left = np.hstack([rng.normal(5, 1, (100, 1)), np.ones((100, 1))])
    right = np.hstack([rng.normal(0, 1, (100, 1)), np.ones((100, 1))])
    _, p = paired_difference(left, right, [str(i) for i in range(100)], ratio, 200)
    assert 0 < p < 1e-12


def test_cluster_sums_add_up() -> None:
    sums = cluster_sums(np.array([[1.0], [2.0], [4.0]]), ["b", "a", "b"])
    assert sums.tolist() == [[2.0], [5.0]]
