"""Times in the notations of spreadsheets, logs and databases."""

from __future__ import annotations

from typing import Any

import pytest

from sizewise.documents.times import iso_time


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2026-03-01", "2026-03-01"),
        ("2026-03", "2026-03"),
        ("2026", "2026"),
        (2026, "2026"),
        ("01.03.2026", "2026-03-01"),
        ("1. 3. 2026, 9:05", "2026-03-01T09:05:00"),
        ("31.12.2026 23:59:58", "2026-12-31T23:59:58"),
        ("2026/3/1", "2026-03-01"),
        ("2026/03/01 12:30", "2026-03-01T12:30:00"),
        ("2026年3月1日", "2026-03-01"),
        ("2026/03", "2026-03"),
        ("03.2026", "2026-03"),
        (1772366400, "2026-03-01T12:00:00+00:00"),
        ("1772366400", "2026-03-01T12:00:00+00:00"),
        (1772366400.25, "2026-03-01T12:00:00.250000+00:00"),
        (1772366400123, "2026-03-01T12:00:00.123000+00:00"),
        ("1772366400123456789", "2026-03-01T12:00:00.123456+00:00"),
        ("2026-03-01T13:00:00+01:00", "2026-03-01T12:00:00+00:00"),
        ("2026-03-01 12:00:00 UTC", "2026-03-01T12:00:00+00:00"),
        ("Sun, 01 Mar 2026 13:00:00 +0100", "2026-03-01T12:00:00+00:00"),
    ],
)
def test_notations_with_one_meaning_are_read(given: Any, expected: str) -> None:
    assert iso_time(given) == expected


@pytest.mark.parametrize(
    "given", ["03/04/2026", "31.02.2026", "yesterday", 5, True, None, "", float("nan"), 10**30, []]
)
def test_other_values_are_unknown(given: Any) -> None:
    assert iso_time(given) == ""
