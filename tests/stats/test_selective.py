"""Selective decisions: the coverage guarantee holds, and no more is handed over than necessary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binom

from sizewise.stats.selective import (
    choose_coverage,
    choose_share,
    effective_items,
    exceedance_p,
    min_decided_for,
    risk_at,
    risk_coverage,
    risk_upper_bound,
)


def draw(seed: int, count: int, size: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw confidences, wrong decisions and clusters; clusters share the confidence and most of the outcomes."""
    rng = np.random.default_rng(seed)
    truth = expit(rng.normal(4.0, 2.0, count))
    luck = np.where(rng.random((count, size)) < 0.9, rng.random((count, 1)), rng.random((count, size)))
    wrong = (luck > truth[:, None]).astype(float)
    return np.repeat(truth, size), wrong.ravel(), np.repeat(np.arange(count), size)


@pytest.mark.parametrize(("size", "risk"), [(1, 0.02), (1, 0.05), (1, 0.1), (3, 0.05)])
def test_stated_risk_is_kept_in_nearly_all_draws(size: int, risk: float) -> None:
    confidence, wrong, _ = draw(999, 50_000)
    everywhere = risk_coverage(confidence, wrong)
    kept, covered = 0, []
    for seed in range(200):
        drawn, lost, clusters = draw(seed, 1_000, size)
        chosen = choose_coverage(drawn, lost, risk, clusters)
        covered.append(0.0 if chosen is None else chosen.coverage)
        place = 0 if chosen is None else int((everywhere.thresholds >= chosen.threshold).sum())
        kept += place == 0 or everywhere.risk[place - 1] <= risk
    assert kept >= 190
    assert np.mean(covered) > {0.02: 0.4, 0.05: 0.8, 0.1: 0.98}[risk]


def test_copies_of_an_item_are_no_evidence() -> None:
    confidence, wrong, clusters = draw(1, 1_000)
    once = choose_coverage(confidence, wrong, 0.05)
    again = choose_coverage(np.tile(confidence, 3), np.tile(wrong, 3), 0.05, np.tile(clusters, 3))
    named = choose_coverage(confidence, wrong, 0.05, [f"document {i}" for i in clusters])
    assert once is not None
    assert again is not None
    assert again._replace(decided=once.decided) == pytest.approx(once)
    assert named == once
    alone = choose_coverage(np.tile(confidence, 3), np.tile(wrong, 3), 0.05)
    assert alone is not None
    assert alone.coverage > once.coverage  # as if copies were independent


def test_one_large_cluster_is_one_observation() -> None:
    confidence, wrong, clusters = np.full(1_000, 0.9), np.zeros(1_000), np.zeros(1_000, dtype=np.int64)
    assert choose_coverage(confidence, wrong, 0.05, clusters) is None
    clusters[:60] = np.arange(60)
    assert choose_coverage(confidence, wrong, 0.05, clusters) is None  # 940 of 1,000 items are still one document
    assert choose_coverage(confidence, wrong, 0.05) is not None


def test_a_confident_error_does_not_stop_the_search() -> None:
    confidence = np.linspace(1, 0.5, 2_000)
    wrong = np.zeros(2_000)
    wrong[[0, 700]] = 1
    chosen = choose_coverage(confidence, wrong, 0.01)
    assert chosen is not None
    assert chosen.coverage == 1.0
    assert chosen.risk_upper < 0.01


def test_no_claim_without_enough_items() -> None:
    few = min_decided_for(0.05)
    assert choose_coverage(np.linspace(0, 1, few - 1), np.zeros(few - 1), 0.05) is None
    chosen = choose_coverage(np.linspace(0, 1, few), np.zeros(few), 0.05)
    assert chosen is not None
    assert (chosen.coverage, chosen.risk, chosen.threshold) == (1.0, 0.0, 0.0)
    assert choose_coverage(np.linspace(0, 1, 500), np.ones(500), 0.05) is None
    assert risk_at(2.0, np.linspace(0, 1, 9), np.zeros(9)) is None


@pytest.mark.parametrize(
    ("confidence", "loss", "risk"),
    [([0.5], [0.0, 1.0], 0.1), ([0.5], [2.0], 0.1), ([float("nan")], [0.0], 0.1), ([0.5], [0.0], 0.0), ([], [], 0.1)],
)
def test_invalid_input_is_rejected(confidence: list[float], loss: list[float], risk: float) -> None:
    with pytest.raises(ValueError, match=r"need one|must be"):
        choose_coverage(np.array(confidence), np.array(loss), risk)


@given(st.integers(1, 400), st.floats(0.01, 0.9), st.data())
@settings(max_examples=50)
def test_p_value_is_the_binomial_one_and_belongs_to_the_bound(count: int, risk: float, data: st.DataObject) -> None:
    total = data.draw(st.integers(0, count))
    p = exceedance_p(total, count, risk)
    if total < count * risk:
        assert p == pytest.approx(binom.cdf(total, count, risk), rel=1e-6, abs=1e-12)
    for binary in (True, False):
        bound = risk_upper_bound(total, count, binary)
        assert bound >= total / count
        assert (exceedance_p(total, count, risk, binary) <= 0.05) == pytest.approx(bound <= risk, abs=1e-6)
    assert exceedance_p(total, count, risk, binary=False) >= p * 0.999


def test_curve_starts_with_the_most_confident_items() -> None:
    curve = risk_coverage(np.array([0.9, 0.5, 0.9, 0.7]), np.array([0.0, 1.0, 1.0, 0.0]))
    assert curve.thresholds.tolist() == [0.9, 0.7, 0.5]
    assert curve.coverage.tolist() == [0.5, 0.75, 1.0]
    assert curve.risk.tolist() == pytest.approx([0.5, 1 / 3, 0.5])
    assert curve.area == pytest.approx((0.5 * 2 + 1 / 3 + 0.5) / 4)


def test_loss_over_all_items_is_kept_in_nearly_all_draws() -> None:
    confidence, wrong, _ = draw(999, 50_000)
    kept, covered = 0, []
    for seed in range(100):
        chosen = choose_share(*draw(seed, 300)[:2], 0.02)
        covered.append(0.0 if chosen is None else chosen.coverage)
        kept += chosen is None or (wrong * (confidence >= chosen.threshold)).mean() <= 0.02
    assert kept >= 93
    assert np.mean(covered) > 0.4


def test_unequal_copies_weaken_the_evidence() -> None:
    confidence, wrong, clusters = draw(1, 400)
    once = choose_share(confidence, wrong, 0.05)
    often = np.concatenate([np.arange(400), np.repeat(7, 300)])  # one prompt makes up almost half of the rows
    unequal = choose_share(confidence[often], wrong[often], 0.05, clusters[often])
    assert once is not None
    assert effective_items(clusters[often]) < 10
    assert unequal is None
