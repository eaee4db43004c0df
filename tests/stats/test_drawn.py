"""Means from drawn values: chances, draws, and intervals that hold."""

from __future__ import annotations

import numpy as np
import pytest

from sizewise.stats.drawn import chances_by_doubt, draw, drawn_mean


def test_chances_sum_to_the_number_drawn_and_never_exceed_one() -> None:
    doubt = np.r_[np.full(3, 10.0), np.full(97, 0.1)]
    chances = chances_by_doubt(doubt, 20)
    assert chances.sum() == pytest.approx(20)
    assert chances[:3].tolist() == [1, 1, 1]
    assert chances.min() > 0
    assert chances_by_doubt(np.zeros(10), 4).tolist() == pytest.approx([0.4] * 10)
    assert chances_by_doubt(doubt, 200).tolist() == [1.0] * 100


def test_each_item_is_drawn_with_its_chance_and_their_number_is_fixed() -> None:
    chances = np.r_[np.full(20, 0.9), np.full(60, 0.2)]
    draws = np.array([draw(chances, seed) for seed in range(2_000)])
    assert set(draws.sum(axis=1)) == {30}
    assert draws.mean(axis=0) == pytest.approx(chances, abs=0.045)


@pytest.mark.parametrize("useful", [True, False])
def test_intervals_hold_whatever_predictions_are_worth(useful: bool) -> None:
    """95 % intervals of 600 draws from one population of 300 values, of which 50 are known."""
    rng = np.random.default_rng(0)
    expected = rng.uniform(0.2, 0.98, 300)
    values = (rng.random(300) < (expected if useful else 1 - expected)) - 0.3
    chances = chances_by_doubt(np.sqrt(expected * (1 - expected)), 50)
    documents = [str(i) for i in range(300)]
    hits, widths = 0, []
    for seed in range(600):
        found = drawn_mean(np.where(draw(chances, seed), values, np.nan), expected, chances, documents)
        hits += found.ci_low < values.mean() < found.ci_high
        widths.append(found.ci_high - found.ci_low)
        assert (found.p < 0.05) == (not found.ci_low < 0 < found.ci_high)
    assert hits >= 0.93 * 600
    plain = 2 * 2.01 * values.std() / np.sqrt(50)
    assert np.mean(widths) < 1.25 * plain


def test_values_that_do_not_vary_prove_nothing() -> None:
    values = np.where(np.arange(40) < 10, 0.0, np.nan)
    found = drawn_mean(values, np.zeros(40), np.full(40, 0.25), [str(i) for i in range(40)])
    assert found.ci_low < -0.05 < 0.05 < found.ci_high
    assert found.p == 1.0


def test_too_few_documents_have_no_interval() -> None:
    values = np.where(np.arange(40) < 6, 1.0, np.nan)
    found = drawn_mean(values, np.zeros(40), np.full(40, 0.15), [str(i) for i in range(40)])
    assert np.isnan(found.p)
    assert np.isinf(found.ci_high)


@pytest.mark.parametrize("count", [20, 50, 200])
def test_without_a_single_other_value_the_interval_reaches_as_far_as_an_exact_one(count: int) -> None:
    """None of n: the true share may be up to 1 - 0.025 ** (1 / n), which Clopper and Pearson (1934) give."""
    size = 4 * count
    chances = np.full(size, 0.25)
    values = np.full(size, np.nan)
    values[:count] = 0.0
    found = drawn_mean(values, np.zeros(size), chances, [str(item) for item in range(size)])
    assert found.value == 0
    assert found.ci_high == pytest.approx(1 - 0.025 ** (1 / count), rel=0.2)
