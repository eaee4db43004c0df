from __future__ import annotations

import numpy as np
import pytest

from sizewise.stats.group_gaps import compare_groups, detectable_gap, gap_power
from sizewise.stats.label_shift import label_shift


def drawn(rng: np.random.Generator, sizes: tuple[int, ...], rates: tuple[float, ...]) -> tuple[np.ndarray, list[str]]:
    values = np.concatenate([(rng.random(n) < rate).astype(float) for n, rate in zip(sizes, rates, strict=True)])
    return values, [f"g{k}" for k, n in enumerate(sizes) for _ in range(n)]


def test_no_planted_gap_is_rarely_found() -> None:
    rng = np.random.default_rng(0)
    found = 0
    for repeat in range(30):
        values, groups = drawn(rng, (200, 100, 60), (0.1, 0.1, 0.1))
        gaps = compare_groups(values, groups, [str(i) for i in range(360)], seed=repeat)
        assert gaps.p is not None
        found += gaps.p < 0.05
    assert found <= 5  # 5% of 30 are 1.5


def test_a_planted_gap_is_found_at_the_stated_power() -> None:
    rng, sizes = np.random.default_rng(1), (435, 435)
    found, power = 0, []
    for repeat in range(16):
        values, groups = drawn(rng, sizes, (0.05, 0.10))
        gaps = compare_groups(values, groups, [str(i) for i in range(870)], seed=repeat)
        assert gaps.p is not None
        found += gaps.p < 0.05
        power.append(gap_power(0.05, 0.05, sizes, gaps.critical))
    assert np.mean(power) == pytest.approx(0.79, abs=0.02)
    assert found / 16 == pytest.approx(np.mean(power), abs=0.3)


def test_intervals_agree_with_p_values_and_hold_for_all_pairs() -> None:
    rng = np.random.default_rng(2)
    values, groups = drawn(rng, (400, 400, 400), (0.05, 0.06, 0.2))
    gaps = compare_groups(values, groups, [str(i) for i in range(1_200)])
    for pair in gaps.pairs:
        assert pair.ci_low <= pair.value <= pair.ci_high
        if pair.p_adjusted < 0.05:
            assert not pair.ci_low < 0 < pair.ci_high
        else:
            assert pair.ci_low <= 0 <= pair.ci_high
    interval = gaps.worst_interval
    assert interval is not None
    assert 0 < interval.ci_low < interval.value < interval.ci_high
    assert gaps.worst is not None
    assert {gaps.worst.left, gaps.worst.right} == {"g0", "g2"}


def test_items_of_one_document_are_no_independent_evidence() -> None:
    rng = np.random.default_rng(3)
    values, groups = drawn(rng, (40, 40), (0.3, 0.55))
    apart = compare_groups(values.repeat(10), list(np.repeat(groups, 10)), [str(i) for i in range(800)])
    together = compare_groups(values.repeat(10), list(np.repeat(groups, 10)), [str(i // 10) for i in range(800)])
    assert apart.p is not None
    assert together.p is not None
    assert apart.p < together.p
    mixed = compare_groups(values, groups, [str(i % 40) for i in range(80)])
    assert mixed.p is not None


def test_small_groups_are_shown_but_not_compared() -> None:
    values, groups = drawn(np.random.default_rng(4), (100, 5), (0.1, 0.1))
    gaps = compare_groups(values, groups, [str(i) for i in range(105)])
    assert [rate.n for rate in gaps.rates] == [100, 5]
    assert (gaps.pairs, gaps.worst, gaps.p, gaps.detectable) == ([], None, None, None)
    assert compare_groups(np.array([]), [], []).rates == []


def test_equal_gaps_of_two_models_have_no_difference_but_an_interval() -> None:
    groups = ["a"] * 50 + ["b"] * 50
    gaps = compare_groups(np.zeros(100), groups, [str(i) for i in range(100)])
    assert gaps.worst is not None
    assert gaps.worst.value == 0
    assert gaps.worst.ci_high > 0
    assert gaps.p == 1


def test_power_grows_with_the_gap_and_the_size() -> None:
    assert gap_power(0.05, 0.05, (435, 435)) == pytest.approx(0.8, abs=0.02)
    assert gap_power(0.10, 0.05, (435, 435)) > gap_power(0.05, 0.05, (435, 435)) > gap_power(0.05, 0.05, (100, 435))
    assert gap_power(detectable_gap(0.1, (300, 200)), 0.1, (300, 200)) == pytest.approx(0.8, abs=1e-6)
    assert detectable_gap(0.5, (2, 2)) == 0.5


def test_a_changed_mix_of_labels_is_found_by_document() -> None:
    rng = np.random.default_rng(5)
    before, after = rng.integers(0, 3, 300), np.where(rng.random(300) < 0.5, 0, rng.integers(0, 3, 300))
    names = [str(i) for i in range(300)]
    found = label_shift((before, names), (after, names), 3)
    assert found.p < 0.01
    assert found.distance == pytest.approx(np.abs(found.before - found.after).sum() / 2)
    assert label_shift((before, names), (rng.integers(0, 3, 300), names), 3).p > 0.01
    assert np.isnan(label_shift((before, ["a"] * 300), (after, names), 3).p)
