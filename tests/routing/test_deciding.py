"""Decisions of a classifier: how many it takes itself at a stated share of errors."""

from __future__ import annotations

import numpy as np
import pytest

from sizewise.errors import UsageError
from sizewise.records import DecisionCoverage
from sizewise.report.routing import coverage_text
from sizewise.routing import decide_coverage


def draw(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw calibrated probabilities of three options, and the correct ones."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 1, (count, 3)) + 6 * np.eye(3)[rng.integers(0, 3, count)] * rng.random((count, 1))
    table = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    labels = (rng.random((count, 1)) > table.cumsum(axis=1)).sum(axis=1)
    return table, np.minimum(labels, 2)


def test_few_of_the_decisions_on_new_cases_are_wrong() -> None:
    found = decide_coverage(*draw(0, 3_000), 0.05)
    assert found.threshold is not None
    assert found.coverage.value is not None
    assert found.error.value is not None
    assert found.error_bound is not None
    assert found.error.value < found.error_bound <= 0.05
    table, labels = draw(1, 20_000)
    decided = table.max(axis=1) >= found.threshold
    assert (table.argmax(axis=1) != labels)[decided].mean() <= 0.05
    assert decided.mean() == pytest.approx(found.coverage.value, abs=0.05)
    assert found.curve[-1].coverage == 1.0
    assert DecisionCoverage.model_validate(found.model_dump(mode="json")) == found


def test_sentence_says_percentages_and_who_takes_the_rest() -> None:
    found = decide_coverage(*draw(0, 3_000), 0.05)
    text = coverage_text(found)
    assert text.startswith(f"Decides {100 * (found.coverage.value or 0):.1f}% [")
    assert "accuracy and hands over the rest" in text
    assert "at most 5% of the decisions are wrong" in text


def test_every_case_is_handed_over_without_evidence() -> None:
    table, labels = draw(0, 60)
    found = decide_coverage(table, labels, 0.01)
    assert found.threshold is found.coverage.value is found.error.value is found.error_bound is None
    assert coverage_text(found).startswith("Hands over every case: no threshold keeps wrong decisions at 1.0%")
    again = np.tile(table, (20, 1)), np.tile(labels, 20)
    assert decide_coverage(*again, 0.05).threshold is not None
    copies = decide_coverage(*again, 0.05, [f"case {i % 60}" for i in range(1_200)])
    assert copies.threshold is None
    assert (copies.items, copies.clusters) == (1_200, 60)


@pytest.mark.parametrize(
    ("table", "labels", "share"),
    [([[0.5, 0.5]], [0, 1], 0.1), ([[0.5, float("nan")]], [0], 0.1), ([[0.5, 0.5]], [0], 1.0), ([], [], 0.1)],
)
def test_wrong_input_is_reported(table: list[list[float]], labels: list[int], share: float) -> None:
    with pytest.raises(UsageError):
        decide_coverage(table, labels, share)
