"""The largest gap between groups on the same items: coverage, false alarms of its difference, and power."""

from __future__ import annotations

import numpy as np
import pytest

from sizewise.stats.paired_gaps import gap_difference, worst_gap

NAMES = [f"d{i}" for i in range(60)]


def measured(seed: int, shift: float = 0.0, noise: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.normal(0, noise, (len(NAMES), 3))
    values[:, 0] += shift
    return values - values.mean(axis=1, keepdims=True)


def test_the_interval_covers_the_largest_gap() -> None:
    covered = 0
    for seed in range(60):
        low, high = worst_gap(measured(seed, shift=1.0), NAMES).interval()
        covered += low <= 1.0 <= high
    assert covered >= 55


def test_noise_alone_is_no_gap_and_no_difference_of_gaps() -> None:
    # One model's answers don't vary at all, the other's vary a lot, and neither has a gap.
    still = worst_gap(np.zeros((len(NAMES), 3)), NAMES)
    assert still.value == 0
    assert still.interval() == (0, 0)
    alarms = gaps = 0
    for seed in range(40):
        noisy = worst_gap(measured(seed, noise=3.0), NAMES)
        gaps += noisy.interval()[0] > 0
        alarms += gap_difference(noisy, still).p < 0.05
    assert gaps <= 4
    assert alarms <= 4


def test_a_real_difference_of_gaps_is_found_and_agrees_with_its_interval() -> None:
    large, none = worst_gap(measured(1, shift=2.0), NAMES), worst_gap(measured(2), NAMES)
    found = gap_difference(large, none)
    assert found.p < 0.01
    assert found.ci_low > 0
    assert gap_difference(none, large).ci_high < 0
    at_p = gap_difference(large, none, level=found.p)
    assert at_p.ci_low == pytest.approx(0, abs=1e-6)
    assert large.one == 0


def test_too_few_documents_have_no_interval() -> None:
    few = worst_gap(measured(1, shift=2.0), ["a", "b", "c"] * 20)
    assert np.isnan(few.interval()[0])
    assert np.isnan(gap_difference(few, few).p)
