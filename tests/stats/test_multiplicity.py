from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sizewise.stats import holm


def test_published_example() -> None:
    # Holm's method on 0.01, 0.04, 0.03, 0.005 (as in R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")).
    assert [round(p, 3) for p in holm([0.01, 0.04, 0.03, 0.005])] == [0.03, 0.06, 0.06, 0.02]


@given(st.lists(st.floats(0, 1), max_size=20))
def test_never_smaller_never_above_one_and_order_kept(values: list[float]) -> None:
    adjusted = holm(values)
    assert all(p <= a <= 1 for p, a in zip(values, adjusted, strict=True))
    by_value = sorted(zip(values, adjusted, strict=True))
    assert all(a[1] <= b[1] for a, b in pairwise(by_value))


def test_a_claim_without_p_stays_without() -> None:
    adjusted = holm([float("nan"), 0.01])
    assert math.isnan(adjusted[0])
    assert adjusted[1] == 0.02
