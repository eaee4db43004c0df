"""Item analysis against definitions, and on simulated answers with planted wrong references."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, permutation_test

from sizewise.stats.items import (
    EXACT_CANDIDATES,
    anchor_count,
    anchor_error,
    choose_anchors,
    discrimination,
    reversal_p,
    smallest_p,
)
from sizewise.stats.multiplicity import false_discovery


def answers(seed: int, items: int, candidates: int, wrong: int = 0, sharp: float = 1.0) -> np.ndarray:
    """Draw right (1) and wrong (0) answers from a Rasch model; the references of the first items are wrong."""
    rng = np.random.default_rng(seed)
    ability, difficulty = rng.normal(0, 1.5, candidates), rng.normal(0, 1.0, items)
    scores = (rng.random((items, candidates)) < 1 / (1 + np.exp(-sharp * (ability - difficulty[:, None])))).astype(
        float
    )
    scores[:wrong] = 1 - scores[:wrong]
    return scores


@given(st.integers(0, 10_000), st.integers(3, 12), st.integers(3, 9))
@settings(deadline=None, max_examples=30)
def test_discrimination_is_the_correlation_with_the_mean_of_the_other_items(seed: int, items: int, count: int) -> None:
    scores = answers(seed, items, count)
    found = discrimination(scores)
    for i in range(items):
        rest = np.delete(scores, i, axis=0).mean(axis=0)
        if np.ptp(scores[i]) == 0 or np.ptp(rest) < 1e-12:
            assert np.isnan(found[i])
        else:
            assert found[i] == pytest.approx(pearsonr(scores[i], rest).statistic, abs=1e-9)


def test_two_candidates_have_no_discrimination() -> None:
    assert np.isnan(discrimination(answers(0, 20, 2))).all()
    assert np.isnan(discrimination(np.ones((1, 5)))).all()
    assert (reversal_p(answers(0, 20, 2)) == 1).all()


def test_p_values_equal_the_exact_permutation_test_of_scipy() -> None:
    scores = answers(1, 30, EXACT_CANDIDATES)
    tested = np.flatnonzero(discrimination(scores) < 0)
    assert len(tested) >= 2
    for i, p in zip(tested, reversal_p(scores)[tested], strict=True):
        rest = np.delete(scores, i, axis=0).mean(axis=0)
        expected = permutation_test(
            (scores[i],),
            lambda one, rest=rest: float(one @ rest),
            permutation_type="pairings",
            alternative="less",
            n_resamples=np.inf,
        )
        assert p == pytest.approx(expected.pvalue, abs=1e-12)


def test_drawn_p_values_approach_the_exact_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = answers(1, 60, EXACT_CANDIDATES)
    exact = reversal_p(scores)
    monkeypatch.setattr("sizewise.stats.items.EXACT_CANDIDATES", 2)
    drawn = reversal_p(scores)
    assert drawn == pytest.approx(exact, abs=0.1)
    assert drawn[exact < 0.05] == pytest.approx(exact[exact < 0.05], abs=0.01)


def test_wrong_references_are_found_and_sound_ones_are_not() -> None:
    found, called = 0, 0
    for seed in range(8):
        flagged = false_discovery(reversal_p(answers(seed, 150, 24, wrong=5, sharp=4.0), seed)) <= 0.1
        found += int(flagged[:5].sum())
        called += int(flagged[5:].sum())
    assert found >= 28  # of 40
    assert called <= 8


def test_items_that_say_nothing_about_ability_are_rarely_called_suspicious() -> None:
    # No item depends on ability, which is the null hypothesis itself.
    runs = 60
    rng = np.random.default_rng(0)
    alarms = sum(
        bool((false_discovery(reversal_p((rng.random((40, 12)) < 0.5).astype(float), seed)) <= 0.1).any())
        for seed in range(runs)
    )
    assert alarms <= 13  # 10% expected; 13 or more of 60 have a probability of 1%


def test_the_smallest_p_value_is_reached() -> None:
    scores = np.vstack([np.repeat([1.0, 0.0], 3), np.tile(np.repeat([0.0, 1.0], 3), (9, 1))])
    assert reversal_p(scores)[0] == pytest.approx(smallest_p(6))


@given(st.integers(0, 1_000), st.integers(1, 40))
@settings(deadline=None, max_examples=30)
def test_anchor_weights_sum_to_one(seed: int, count: int) -> None:
    anchors = choose_anchors(answers(seed, 40, 5), count, seed)
    assert anchors.weights.sum() == pytest.approx(1)
    assert len(set(anchors.items.tolist())) == count
    assert sorted(anchors.items) == anchors.items.tolist()


def test_all_items_as_anchors_have_no_error() -> None:
    scores = answers(0, 40, 6)
    anchors = choose_anchors(scores, 40)
    assert anchors.weights @ scores[anchors.items] == pytest.approx(scores.mean(axis=0))
    assert anchor_error(scores, 40).largest == pytest.approx(0, abs=1e-12)


def test_anchors_predict_candidates_left_out_better_than_random_items() -> None:
    found = [anchor_error(answers(seed, 400, 12, sharp=4.0), 40) for seed in range(20)]
    assert np.mean([one.mean for one in found]) < 0.85 * np.mean([one.random for one in found])


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="1 to 40 anchors, not 41"):
        choose_anchors(answers(0, 40, 5), 41)
    with pytest.raises(ValueError, match="at least 4 candidates, not 3"):
        anchor_error(answers(0, 40, 3), 10)
    assert [anchor_count(items) for items in (20, 21, 100, 10_000)] == [0, 10, 25, 100]
