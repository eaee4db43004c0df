"""Numbers, amounts and dates in several writings."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizewise.text.quantities import Amount, amount_of, date_of, find_quantities, readings_of


@pytest.mark.parametrize(
    ("text", "number", "unit"),
    [
        ("1.0", "1", ""),
        ("$1,496.5", "1496.5", "USD"),
        ("1\u202f496,50 €", "1496.5", "EUR"),
        ("EUR 1.234,56", "1234.56", "EUR"),
        ("1'200", "1200", ""),
        ("1,00,000", "100000", ""),
        ("１２００", "1200", ""),  # noqa: RUF001
        ("٣٤", "34", ""),
        ("(12.6)", "-12.6", ""),
        ("$(12.6)", "-12.6", "USD"),
        ("\u221212.6", "-12.6", ""),
        ("22.2 percent", "22.2", "%"),
        ("$0.5 million", "500000", "USD"),
        ("1,5 Mio. EUR", "1500000", "EUR"),
        ("1e3", "1000", ""),
        (".5", "0.5", ""),
        ("2,5 millones", "2500000", ""),
        ("3 mld", "3000000000", ""),
        ("5 lakh", "500000", ""),
        ("1200万円", "12000000", "JPY"),
        ("150만 원", "1500000", "KRW"),
    ],
)
def test_a_number_is_read_in_many_writings(text: str, number: str, unit: str) -> None:
    assert amount_of(text) == Amount(Decimal(number), unit)


@pytest.mark.parametrize("text", ["007", "INV-12", "1.2.3", "12 and 13", "", "v2", "2019 2018", "1" * 70])
def test_what_is_no_single_number_is_not_read_as_one(text: str) -> None:
    assert amount_of(text) is None


def test_a_point_before_three_digits_is_decimal_unless_the_source_may_mean_thousands() -> None:
    assert amount_of("1,234") == Amount(Decimal(1234))
    assert amount_of("1.234") == Amount(Decimal("1.234"))
    assert {one.number for one in readings_of("1.234")} == {Decimal("1.234"), Decimal(1234)}


def test_different_units_never_agree() -> None:
    assert not Amount(Decimal(5), "USD").agrees_with(Amount(Decimal(5), "EUR"))
    assert Amount(Decimal(5), "USD").agrees_with(Amount(Decimal("5.0")))


@pytest.mark.parametrize(
    "text",
    [
        *("2019-05-26", "26.5.2019", "5/26/2019", "26/05/2019", "May 26, 2019", "26th of May 2019", "26. Mai 2019"),
        *(
            "26 mai 2019",
            "26 de mayo de 2019",
            "2019年5月26日",
            "２０１９-０５-２６",  # noqa: RUF001
        ),
    ],
)
def test_a_date_is_read_in_many_writings(text: str) -> None:
    assert date_of(text) == date(2019, 5, 26)


@pytest.mark.parametrize("text", ["03/04/2019", "2019-02-30", "May 2019", "2019", "12.5.19"])
def test_an_uncertain_or_impossible_date_is_none(text: str) -> None:
    assert date_of(text) is None


def test_quantities_are_found_with_their_places() -> None:
    text = "On May 26, 2019 sales (FY2019) fell to 12 345 | $1.5 million; R2 and covid19 stay."
    found = {text[one.start : one.end] for one in find_quantities(text)}
    assert {"May 26, 2019", "26", "2019", "12 345", "12", "345", "$1.5 million"} == found
    million = next(one for one in find_quantities(text) if one.start == text.index("$"))
    assert {one.number for one in million.amounts} == {Decimal(1_500_000), Decimal("1.5")}


@pytest.mark.parametrize(
    ("text", "written", "number"),
    [
        ("患者被给予250毫克静脉注射头孢", "250", 250),
        ("売上は1200万円です", "1200万", 12_000_000),
        ("ราคา1500บาท", "1500", 1_500),
        ("총1500개", "1500", 1_500),
    ],
)
def test_a_number_may_follow_a_word_directly_in_scripts_without_spaces(text: str, written: str, number: int) -> None:
    (found,) = find_quantities(text)
    assert text[found.start : found.end] == written
    assert Decimal(number) in {one.number for one in found.amounts}


@given(st.decimals(-(10**9), 10**9, places=2))
def test_a_number_reads_back_with_and_without_separators(number: Decimal) -> None:
    assert amount_of(f"{number:,}") == amount_of(str(number)) == Amount(number)


@given(st.dates(date(1000, 1, 1), date(2999, 12, 31)))
def test_a_date_reads_back(day: date) -> None:
    assert date_of(day.isoformat()) == date_of(f"{day:%d %B} {day.year}") == day


def test_long_texts_are_read_in_linear_time() -> None:
    for text in ("1 " + "11 " * 2_000, "$ " * 2_000, "(" * 4_000, "1" + " " * 4_000, "1" * 4_000):
        find_quantities(text)
