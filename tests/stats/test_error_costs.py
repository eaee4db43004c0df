from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizewise.stats.error_costs import HAND_OVER, best_threshold, cheapest_actions, cost_curve, costs_of, mean_cost

COSTS = np.array([[0.0, 20.0], [1.0, 0.0]])


def test_the_cheapest_action_follows_the_costs_and_people_take_doubtful_cases() -> None:
    positive = np.array([0.5, 0.94, 0.96])
    chances = np.column_stack([1 - positive, positive])
    assert cheapest_actions(chances, COSTS).tolist() == [0, 0, 1]
    assert cheapest_actions(chances, COSTS, hand_over=0.7).tolist() == [0, HAND_OVER, HAND_OVER]
    assert costs_of(np.array([0, 1, 0]), np.array([1, HAND_OVER, 0]), COSTS, 0.7).tolist() == [20.0, 0.7, 0.0]


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=40), st.floats(0.1, 50))
def test_no_other_threshold_is_cheaper(cases: list[tuple[float, int]], ratio: float) -> None:
    stated, hits = np.array([one[0] for one in cases]), np.array([one[1] for one in cases])

    def cost(threshold: float) -> float:
        decided = stated >= threshold
        return float((decided & (hits == 0)).sum() + ratio * (~decided & (hits == 1)).sum()) * 1_000 / len(hits)

    found = best_threshold(stated, hits, 1.0, ratio)
    assert found.cost <= min(cost(one) for one in (*stated, 2.0)) + 1e-6
    assert found.by_costs == pytest.approx(1 / (1 + ratio))


def test_cost_curve_is_measured_on_other_cases() -> None:
    rng = np.random.default_rng(0)
    stated = rng.random(1_000)
    hits = (rng.random(1_000) < stated).astype(np.int64)
    points = cost_curve(
        (stated[:500], hits[:500]), stated[500:], hits[500:], [str(i) for i in range(500)], [0.1, 1, 10]
    )
    assert [one.threshold for one in points] == sorted((one.threshold for one in points), reverse=True)
    for one in points:
        assert one.cost.ci_low <= one.cost.value <= one.cost.ci_high
        assert one.cost.value < min(one.cost_always_positive, one.cost_always_negative) + 20
    assert mean_cost(np.zeros(50), [str(i) for i in range(50)]).value == 0
