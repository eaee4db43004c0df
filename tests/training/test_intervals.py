"""Intervals of bits per byte and of changes by training come from independent texts."""

from __future__ import annotations

import numpy as np
import pytest

from sizewise.records import PositionBits
from sizewise.stats import MIN_CLUSTERS
from sizewise.training.attention_tradeoff import _ends
from sizewise.training.intervals import ratio_score


def test_a_ratio_of_sums_has_an_interval_that_holds_the_truth() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        sizes = rng.integers(200, 1000, 40)
        bits = sizes * rng.normal(0.3, 0.2, 40)
        score = ratio_score("change", bits.tolist(), sizes.tolist(), unit="bits/byte", signature="test")
        assert score.value == pytest.approx(bits.sum() / sizes.sum())
        assert score.ci_low is not None
        assert score.ci_high is not None
        hits += score.ci_low <= 0.3 <= score.ci_high
    assert hits >= 88


def test_one_text_has_no_interval_and_says_why() -> None:
    score = ratio_score("change", [3.0, 4.0], [10.0, 10.0], unit="bits/byte", signature="test", clusters=["a", "a"])
    assert score.value == pytest.approx(0.35)
    assert score.ci_low is None
    assert score.ci_missing_reason == f"too few source documents: 1 of at least {MIN_CLUSTERS}"
    span = PositionBits(first=0, last=63, tokens=10, bits=5.0, texts=1)
    assert _ends(span) == " (no interval: 1 text)"
    assert _ends(span.model_copy(update={"ci_low": 4.5, "ci_high": 5.5})) == " [4.50, 5.50]"
