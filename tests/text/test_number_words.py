"""English number words and fractions in digits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizewise.text.number_words import decimals_for_fractions, digits_for_words, find_number_words


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("fifty-five", "55"),
        ("Three-quarters of it", "0.75 of it"),
        ("two and a half hours", "2.5 hours"),
        ("two thirds", "0.6667"),
        ("half of them", "0.5 of them"),
        ("nineteen eighty-four", "1984"),
        ("twenty twenty-four", "2024"),
        ("two hundred and five", "205"),
        ("two million three hundred thousand", "2300000"),
        ("two point five mg", "2.5 mg"),
        ("one two three", "1 2 3"),
        ("a dozen eggs", "12 eggs"),
        ("a twenty-one-year-old", "a 21-year-old"),
        ("one month", "1 month"),
        ("3 quarters", "0.75"),
    ],
)
def test_number_words_are_written_in_digits(text: str, written: str) -> None:
    assert digits_for_words(text) == written


@pytest.mark.parametrize(
    "text",
    [
        "no one",
        "one of them",
        "a third attempt",
        "the third of May",
        "someone often",
        "ten minste",
        "ten sam dzień",
        "120 million",
    ],
)
def test_other_words_stay(text: str) -> None:
    assert digits_for_words(text) == text


def test_quarters_of_a_year_are_counted() -> None:
    assert digits_for_words("the last three quarters") == "the last 3 quarters"


@pytest.mark.parametrize(
    ("text", "written"),
    [("1/2", "0.5"), ("2 3/4 cups", "2.75 cups"), ("5/10", "0.5"), ("1/3", "0.3333")],
)
def test_fractions_are_written_as_decimals(text: str, written: str) -> None:
    assert decimals_for_fractions(text) == written


@pytest.mark.parametrize("text", ["24/7", "1/2/2024", "05/06", "120/80", "v1/2", "and/or", "3/3"])
def test_ratios_and_dates_stay(text: str) -> None:
    assert decimals_for_fractions(text) == text


@given(st.integers(0, 999_999))
def test_a_number_spelled_out_is_read_back(number: int) -> None:
    assert digits_for_words(spelled(number)).strip() == (str(number) if number != 1 else "one")


def spelled(number: int) -> str:
    small = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    small += " seventeen eighteen nineteen"
    tens = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
    if number < 20:
        return small.split()[number]
    if number < 100:
        return tens[number // 10] + (f"-{spelled(number % 10)}" if number % 10 else "")
    size, word = (1000, "thousand") if number >= 1000 else (100, "hundred")
    return f"{spelled(number // size)} {word}" + (f" and {spelled(number % size)}" if number % size else "")


def test_number_words_have_their_places() -> None:
    text = "She is twenty-six, has three quarters of it, and no one else has 12."
    assert [(text[start:end], float(value)) for start, end, value in find_number_words(text)] == [
        ("twenty-six", 26.0),
        ("three quarters", 0.75),
    ]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("应在三十天内支付", "应在30天内支付"),
        ("第一百二十三条", "第123条"),
        ("二〇二四年五月", "2024年5月"),
        ("两万三千元", "23000元"),
        ("三億円", "300000000円"),
        ("三四天", "三四天"),
        ("一万五元", "一万五元"),
        ("一个人", "一个人"),
        ("十分重要 三明治", "十分重要 三明治"),
        ("1200万円", "1200万円"),
    ],
)
def test_numbers_in_chinese_characters_are_read_where_they_count(text: str, written: str) -> None:
    assert digits_for_words(text) == written
