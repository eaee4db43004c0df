"""Personal data is found at its exact position, and other numbers are left alone."""

from __future__ import annotations

import pytest

pytest.importorskip("presidio_analyzer")

from sizewise.guard import find_personal
from tests.clock import processor_seconds


def found(text: str) -> list[tuple[str, str]]:
    return [(one.kind, text[one.start : one.end]) for one in find_personal(text)]


@pytest.mark.parametrize(
    ("text", "kind", "part"),
    [
        ("Write to Anna.K+bills@mail.example.co.uk today.", "email", "Anna.K+bills@mail.example.co.uk"),
        ("Call +49 30 901820, please.", "phone", "+49 30 901820"),
        ("Call (415) 555-2671 at noon", "phone", "(415) 555-2671"),
        ("Call (415) 555-2671x12 at noon", "phone", "(415) 555-2671x12"),
        ("It went to DE89 3704 0044 0532 0130 00.", "iban", "DE89 3704 0044 0532 0130 00"),
        ("Card 4111-1111-1111-1111 was declined", "card", "4111-1111-1111-1111"),
        ("Card 2221 0000 0000 0009 was declined", "card", "2221 0000 0000 0009"),
        ("SSN 536-90-4399", "national_id", "536-90-4399"),
        ("Her Steuer-ID is 86 095 742 719.", "national_id", "86 095 742 719"),
        ("lives at 12 Baker Street, London NW1 6XE.", "address", "12 Baker Street, London NW1 6XE"),
        ("wohnt Hauptstraße 12, 10115 Berlin.", "address", "Hauptstraße 12, 10115 Berlin"),
        ("au 12 rue de la Paix, 75002 Paris", "address", "12 rue de la Paix, 75002 Paris"),
        ("born 3 March 1984.", "date", "3 March 1984"),
        ("born 1984-03-31.", "date", "1984-03-31"),
        ("from 192.168.10.7 at night", "ip", "192.168.10.7"),
    ],
)
def test_each_kind_is_found_completely(text: str, kind: str, part: str) -> None:
    assert (kind, part) in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Version 2.13.0 costs 1,299.00; see section 12.3.4 on page 4111.",
        "A dose of 40 mg every 8 hours for 14 days.",
        "In March 2024 the court heard 17 cases.",
        "4111 1111 1111 1112 has a wrong last digit, and DE88 3704 0044 0532 0130 00 too.",
        "The road to the hill was closed.",
    ],
)
def test_numbers_that_are_not_personal_are_left_alone(text: str) -> None:
    assert [one for one in found(text) if one[0] in ("email", "iban", "card", "address", "date", "national_id")] == []


def test_a_label_identifies_a_bare_number() -> None:
    assert found("The passport is C01234567.") == [("national_id", "C01234567")]
    assert found("The part is C01234567.") == []


@pytest.mark.parametrize("text", ["a", "A-", "1 ", "12 Baker ", "x@y.", "1 rue A ", "DE89 ", "11-11 "])
def test_hostile_texts_take_no_more_time_than_their_length(text: str) -> None:
    """Time grows with the length, not with its square: ten times the text takes less than fifty times as long."""
    short, long = (
        processor_seconds(lambda size=size: find_personal(text * (size // len(text)))) for size in (4_000, 40_000)
    )
    assert long < 50 * max(short, 0.02)


def test_nothing_is_fetched() -> None:
    """presidio would fetch the list of domains; the tests' sockets are closed, so that would raise."""
    assert found("to a.b@example.museum") == [("email", "a.b@example.museum")]


def test_overlapping_findings_are_covered_completely() -> None:
    text = "Dorfgasse 17\n6850 Dornbirn\nTel. 05572 / 38 41 09"
    covered = "".join(text[one.start : one.end] for one in find_personal(text))
    assert all(part in covered for part in ("17", "6850", "05572", "38 41 09"))
