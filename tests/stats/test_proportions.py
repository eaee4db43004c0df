from __future__ import annotations

import pytest

from sizewise.stats import wilson


def test_published_value() -> None:
    # Newcombe (1998), table I, case 81 of 263: 0.2553 to 0.3662.
    ci_low, ci_high = wilson(81, 263)
    assert (round(ci_low, 4), round(ci_high, 4)) == (0.2553, 0.3662)


def test_extremes_stay_in_range() -> None:
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == pytest.approx(1)


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (5, 4), (-1, 3)])
def test_nonsense_is_refused(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="wilson"):
        wilson(successes, n)
