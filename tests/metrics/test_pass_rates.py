"""pass@k is estimated without bias from the samples of an item."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from sizewise.errors import UsageError
from sizewise.metrics import find_metric
from sizewise.metrics.pass_rates import pass_at, pass_at_parts


def test_published_formula_and_its_edges() -> None:
    # Chen et al. (2021), figure 3: 1 - prod(1 - k / arange(n - c + 1, n + 1)).
    for n, c, k in ((200, 7, 10), (10, 3, 5), (5, 5, 1), (5, 0, 5)):
        product = 1.0 - float(np.prod(1.0 - k / np.arange(n - c + 1, n + 1))) if n - c >= k else 1.0
        assert pass_at(n, c, k) == pytest.approx(product)
    assert pass_at(4, 1, 4) == 1
    assert pass_at(10, 3, 1) == pytest.approx(0.3)


def test_the_estimate_is_unbiased() -> None:
    n, k, p = 6, 3, 0.2
    mean = sum(comb(n, c) * p**c * (1 - p) ** (n - c) * pass_at(n, c, k) for c in range(n + 1))
    assert mean == pytest.approx(1 - (1 - p) ** k)


@pytest.mark.parametrize(("samples", "right", "k"), [(3, 4, 1), (3, 1, 4), (3, 1, 0)])
def test_impossible_counts_are_refused(samples: int, right: int, k: int) -> None:
    with pytest.raises(ValueError, match="pass_at needs"):
        pass_at(samples, right, k)


def test_names() -> None:
    assert pass_at_parts("exact_match_pass@10") == ("exact_match", 10)
    assert pass_at_parts("exact_match") is None
    metric = find_metric("exact_match_pass@10")
    assert metric.title == "Exact match, pass@10"
    assert "pass@10:unbiased" in metric.signature()
    with pytest.raises(UsageError):
        find_metric("no_such_metric_pass@3")


# numpy's product of Chen et al. (2021), figure 3, worked out by hand: 1 - (n-c choose k) / (n choose k).
TABLE = {
    (1, 0, 1): 0, (1, 1, 1): 1, (2, 0, 1): 0, (2, 1, 1): 1 / 2, (2, 2, 1): 1, (2, 1, 2): 1, (2, 0, 2): 0,
    (3, 1, 1): 1 / 3, (3, 1, 2): 2 / 3, (3, 1, 3): 1, (3, 2, 1): 2 / 3, (3, 2, 2): 1, (4, 1, 2): 1 / 2,
    (4, 2, 2): 5 / 6, (4, 3, 2): 1, (4, 1, 3): 3 / 4, (4, 2, 3): 1, (5, 1, 1): 1 / 5, (5, 2, 2): 7 / 10,
    (5, 2, 3): 9 / 10, (5, 1, 4): 4 / 5, (5, 3, 2): 9 / 10, (5, 4, 1): 4 / 5, (5, 5, 5): 1, (10, 1, 5): 1 / 2,
    (10, 2, 5): 7 / 9, (10, 5, 5): 251 / 252, (10, 9, 1): 9 / 10, (10, 0, 10): 0, (10, 1, 10): 1,
    (100, 1, 10): 1 / 10, (200, 1, 100): 1 / 2, (200, 0, 200): 0, (7, 2, 3): 5 / 7,
}  # fmt: skip


@pytest.mark.parametrize("counts", TABLE)
def test_pass_at_k_has_the_value_worked_out(counts: tuple[int, int, int]) -> None:
    assert pass_at(*counts) == pytest.approx(TABLE[counts])
