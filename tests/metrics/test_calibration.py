"""The calibration error has no bias, and its interval holds 0 for a model that is calibrated."""

from __future__ import annotations

import numpy as np
import pytest

from sizewise.metrics import METRICS, ChoiceItem, total
from sizewise.metrics.choices import ChoiceCalibration
from sizewise.records import ItemRow

METRIC = ChoiceCalibration()


def questions(rng: np.random.Generator, count: int, overconfident: float) -> list[tuple[float, ...]]:
    """Simulate two-choice questions whose accuracy is the confidence minus `overconfident`."""
    confidence = rng.uniform(0.55 + overconfident, 0.95, count)
    correct = rng.random(count) < confidence - overconfident
    return [
        METRIC.measure(ChoiceItem((-float(np.log(c)), -float(np.log(1 - c))), (1, 1), 0 if right else 1))
        for c, right in zip(confidence, correct, strict=True)
    ]


@pytest.mark.parametrize(("overconfident", "expected"), [(0.0, 0.0), (0.1, 0.01), (0.2, 0.04)])
@pytest.mark.parametrize("count", [30, 150])
def test_the_mean_over_test_sets_is_the_true_squared_gap(overconfident: float, expected: float, count: int) -> None:
    rng = np.random.default_rng(count)
    values = [
        float(METRIC.value(np.sum(questions(rng, count, overconfident), axis=0))) for _ in range(60_000 // count // 4)
    ]
    error = float(np.std(values)) / len(values) ** 0.5
    assert abs(np.mean(values) - expected) < 3.5 * error + 1e-4


@pytest.mark.parametrize("overconfident", [0.0, 0.2])
def test_the_interval_holds_the_truth(overconfident: float) -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(60):
        rows = [
            ItemRow(
                item=f"q{i}", kind="choice", cluster=f"d{i}", uncontaminated=True, stats={"choice_calibration": stats}
            )
            for i, stats in enumerate(questions(rng, 150, overconfident))
        ]
        score = total(METRICS["choice_calibration"], rows, name="choice_calibration", signature="")
        assert score.ci_low is not None
        assert score.ci_high is not None
        hits += score.ci_low <= overconfident**2 <= score.ci_high
    assert hits >= 52


def test_single_questions_cannot_show_calibration() -> None:
    one = np.array(METRIC.measure(ChoiceItem((0.1, 2.0), (1, 1), 0)))
    assert np.isnan(METRIC.value(one))
