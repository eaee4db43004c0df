"""What a test set can show."""

from __future__ import annotations

import numpy as np
import pytest

from sizewise.stats import detectable_difference, needed_for


def test_a_difference_of_that_size_is_shown_in_four_of_five_cases() -> None:
    random = np.random.default_rng(0)
    n = 200
    least = detectable_difference(-1.96 / np.sqrt(n), 1.96 / np.sqrt(n))
    means = random.normal(least, 1, (4000, n)).mean(axis=1)
    assert (means - 1.96 / np.sqrt(n) > 0).mean() == pytest.approx(0.8, abs=0.02)


def test_half_the_difference_needs_four_times_as_many() -> None:
    assert needed_for(0.1, 0.1, 50) == 50
    assert needed_for(-0.05, 0.1, 50) == 200
    assert needed_for(0.5, 0.1, 50) == 50
