from __future__ import annotations

import pytest

from sizewise.metrics.display import signed_text
from sizewise.records import Difference, Range, Score
from sizewise.report.rounding import (
    fixed,
    minutes_text,
    money,
    money_range,
    p_text,
    rounded_difference,
    rounded_score,
    rounded_value,
    seconds_text,
    size_text,
)


def score(
    value: float, ci_low: float | None, ci_high: float | None, unit: str = "0-100", metric: str = "bleu"
) -> Score:
    return Score(metric=metric, value=value, ci_low=ci_low, ci_high=ci_high, n=100, unit=unit, signature="s")


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (score(21.4738, 19.123, 23.87), "21.5 [19.1, 23.9]"),
        (score(21.4738, 11.5, 31.4), "21 [12, 31]"),
        (score(0.87312, 0.7734, 0.9655, "share", "accuracy"), "87% [77, 97]"),
        (score(0.33, 0.305, 0.365, "share", "token_f1"), "0.33 [0.30, 0.36]"),
        (score(8.0000004, 8.0000001, 8.0000007), "8.00 [8.00, 8.00]"),
        (score(-0.0004, -0.4, 0.39), "0.0 [-0.4, 0.4]"),
        (score(12.0, 12.0, 12.0), "12"),
        (score(12.0, None, None), "12"),
        (score(1.31, 1.2, None), "1.31 [1.20, unbounded]"),
        (score(3e9, 2.5e9, 3.5e9, "bytes", "memory_bytes"), "3.0 [2.5, 3.5]"),
    ],
)
def test_values_have_the_digits_that_their_interval_justifies(found: Score, text: str) -> None:
    assert rounded_score(found) == text
    assert rounded_value(found) == text.partition(" [")[0]


def test_missing_is_not_zero() -> None:
    missing = Score(metric="bleu", n=0, unit="0-100", signature="s", missing_reason="no examples")
    assert rounded_score(missing) == "not measured"


@pytest.mark.parametrize("decimals", [0, 1, 3])
@pytest.mark.parametrize("value", [-0.0, -1e-9, -0.0004])
def test_zero_has_no_sign(value: float, decimals: int) -> None:
    assert not fixed(value, decimals).startswith("-")
    assert not fixed(value, decimals, sign=True).startswith(("-", "+"))


def test_differences_have_a_sign_and_points() -> None:
    found = Difference(
        metric="accuracy", left="a", right="b", value=0.0512, ci_low=0.01, ci_high=0.0912, p=0.01, n=100, clusters=20,
        unit="share", better="a",
    )  # fmt: skip
    assert rounded_difference(found) == "+5 [+1, +9] points"
    assert rounded_difference(found.turned()) == "-5 [-9, -1] points"


def test_amounts_times_and_sizes_have_the_unit_that_fits() -> None:
    assert [money(usd) for usd in (0.00233, 4.567, 1234.5)] == ["0.0023", "4.6", "1,234"]
    assert money_range(Range(lower=1, expected=2, upper=3)) == "1 to 3"
    assert money_range(Range(lower=2, expected=2, upper=2)) == "2"
    assert [seconds_text(s) for s in (0.00042, 0.035, 0.998, 1.94, 61.3)] == [
        *("0.42 ms", "35 ms", "1 s", "1.9 s", "61 s")
    ]
    assert [size_text(n) for n in (293e6, 15.4e6, 40_000)] == ["0.29 GB", "15 MB", "40 kB"]
    assert [minutes_text(m) for m in (0.5, 6.2, 130)] == ["30 s", "6 min", "2.2 h"]
    assert [p_text(p) for p in (0.0002, 0.0123)] == ["p < 0.001", "p = 0.012"]


@pytest.mark.parametrize(("metric", "unit", "largest"), [("accuracy", "share", 1.0), ("bleu", "0-100", 100.0)])
def test_an_interval_of_a_difference_ends_at_what_is_possible(metric: str, unit: str, largest: float) -> None:
    found = Difference(
        metric=metric, left="a", right="b", value=0.97 * largest, ci_low=0.93 * largest, ci_high=1.01 * largest,
        p=0.001, n=40, clusters=40, unit=unit, better="a",
    )  # fmt: skip
    assert "101" not in rounded_difference(found)
    assert "+100" in rounded_difference(found)
    assert "+100]" in signed_text(metric, unit, found.value, found.ci_low, found.ci_high)
