"""Votes are clustered by rater and by document; point, interval and p-value come from one test."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from statsmodels.stats.proportion import proportion_confint

from sizewise.stats.crossed import LEVEL, Reading, estimate_share

SPREAD = np.random.default_rng(5).standard_normal(200_000)


def simulated(
    rng: np.random.Generator, raters: int, documents: int, each: int, spread: tuple[float, float], mean: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw votes for or against by raters and on documents that differ by `spread` logits."""
    lean, ease = rng.normal(0, spread[0], raters), rng.normal(0, spread[1], documents)
    document = np.repeat(np.arange(documents), each)
    rater = (np.repeat(rng.permutation(documents) * each, each) + np.tile(np.arange(each), documents)) % raters
    share = rng.random(len(document)) < expit(mean + lean[rater] + ease[document])
    return share.astype(float), rater, document


@pytest.mark.parametrize(
    ("raters", "documents", "each", "mean"), [(3, 60, 1, 0.0), (5, 40, 3, 0.5), (10, 40, 3, -1.5), (50, 30, 20, 0.5)]
)
def test_intervals_cover_raters_who_differ(raters: int, documents: int, each: int, mean: float) -> None:
    rng = np.random.default_rng(raters)
    truth = float(expit(mean + SPREAD * np.hypot(0.8, 0.7)).mean())
    inside = naive = 0
    for _ in range(300):
        share, rater, document = simulated(rng, raters, documents, each, (0.8, 0.7), mean)
        found = estimate_share(share, rater, document)
        inside += found.ci_low <= truth <= found.ci_high
        low, high = proportion_confint(share.sum(), len(share), method="wilson")
        naive += low <= truth <= high
    assert 0.92 <= inside / 300 <= 0.985
    assert naive < inside - 15  # votes are not independent


def test_equal_documents_without_raters_raise_no_false_alarms() -> None:
    rng = np.random.default_rng(0)
    for documents in (8, 20, 60):
        found = [estimate_share(rng.integers(0, 2, documents).astype(float), None, np.arange(documents)).p
                 for _ in range(500)]  # fmt: skip
        assert np.mean(np.array(found) < LEVEL) <= 0.07


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0, 0.3]), st.integers(0, 5), st.integers(0, 9)), min_size=2),
    st.floats(0.05, 0.95),
    st.sampled_from(["once", "open", "with bets"]),
)
@settings(deadline=None, max_examples=200)
def test_interval_and_p_agree_and_hold_the_value(
    votes: list[tuple[float, int, int]], null: float, reading: Reading
) -> None:
    share, rater, document = (np.array(column) for column in zip(*votes, strict=True))
    found = estimate_share(share, rater, document, null=null, reading=reading)
    assert 0 <= found.ci_low <= found.value <= found.ci_high <= 1
    if abs(found.p - LEVEL) > 1e-9:
        assert (found.p < LEVEL) == (not found.ci_low <= null <= found.ci_high)
    flipped = estimate_share(1 - share, rater, document, null=1 - null, reading=reading)
    assert flipped.ci_low == pytest.approx(1 - found.ci_high)
    assert flipped.p == pytest.approx(found.p)


def test_unanimous_votes_have_wilsons_interval_of_the_documents() -> None:
    # 30 votes on 10 documents that all agree count as about 10: Student's t instead of the normal quantile.
    found = estimate_share(np.ones(30), None, np.repeat(np.arange(10), 3))
    assert found.ci_high == 1
    assert found.ci_low == pytest.approx(10 / (10 + 2.262**2), abs=0.015)


def test_votes_that_differ_within_documents_keep_the_interval_near_its_spread() -> None:
    """20 documents with 50 votes each, nine in ten of which agree."""
    rng, values, halves, inside = np.random.default_rng(2), [], [], 0
    truth = float(expit(2.8 + SPREAD * np.hypot(0.8, 0.7)).mean())
    for _ in range(200):
        lean, ease = rng.normal(0, 0.8, 50), rng.normal(0, 0.7, 20)
        document, rater = np.repeat(np.arange(20), 50), np.tile(np.arange(50), 20)
        share = rng.random(1_000) < expit(2.8 + lean[rater] + ease[document])
        found = estimate_share(share.astype(float), rater, document)
        values.append(found.value)
        halves.append((found.ci_high - found.ci_low) / 2)
        inside += found.ci_low <= truth <= found.ci_high
    assert 1.8 < np.median(halves) / np.std(values) < 2.6
    assert inside / 200 >= 0.91


def test_few_raters_count_as_none_and_an_open_round_is_wider() -> None:
    rng = np.random.default_rng(1)
    share, rater, document = simulated(rng, 10, 60, 1, (0.0, 0.0), 0.4)
    two = estimate_share(share, rater % 2, document)
    assert two == estimate_share(share, None, document)
    readings: tuple[Reading, ...] = ("once", "open", "with bets")
    once, opened, bets = (estimate_share(share, rater, document, reading=reading) for reading in readings)
    assert opened.ci_low < bets.ci_low < once.ci_low < once.ci_high < bets.ci_high < opened.ci_high


@pytest.mark.parametrize("wrong", [float("nan"), 1.5, -0.5, float("inf")])
def test_values_that_are_no_shares_are_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        estimate_share(np.array([wrong, *[0.5] * 20]), None, np.arange(21))
    with pytest.raises(ValueError, match="between 0 and 1"):
        estimate_share(np.full(20, 0.5), None, np.arange(20), null=wrong)


@pytest.mark.parametrize("null", [0.0, 1.0])
def test_the_ends_of_the_scale_cannot_be_tested(null: float) -> None:
    with pytest.raises(ValueError, match="null value"):
        estimate_share(np.full(20, 0.5), None, np.arange(20), null=null)


def test_one_rater_with_nearly_all_votes_decides_nothing_for_the_others() -> None:
    votes, others = 30_000, 10
    documents = np.concatenate([np.arange(votes), np.arange(others * 4)])
    raters = np.concatenate([np.zeros(votes, dtype=np.int64), np.repeat(np.arange(1, others + 1), 4)])
    shares = np.concatenate([np.ones(votes), np.zeros(others * 4)])
    found = estimate_share(shares, raters, documents)
    assert found.value > 0.99
    assert found.ci_low < 0.1
    assert found.p > 0.5
