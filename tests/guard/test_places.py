"""Rules that are tried at some places of a text only find there what they find when they are tried everywhere."""

from __future__ import annotations

import random
import re
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("presidio_analyzer")

from sizewise.guard import finding, numbers, regions, written
from sizewise.guard.numbers import Phones, accounts, cards
from sizewise.guard.places import Places, count_within, fold
from sizewise.guard.plain import plain_copies
from sizewise.guard.rules import rules_of
from tests.clock import processor_seconds
from tests.guard.test_disguised import VALUES
from tests.guard.test_regions import OTHERS

WRITTEN = (
    *("Apt 4, Rose Court, 12 Baker Street", "12, N. High Street", "Three Kings Road", "Hauptstraße 12, 10115 Berlin"),
    *("1017 Am Markt, Prinsengracht 263", "12 bis rue de la Paix, 75002 Paris", "Calle de Alcalá 45", "Via Roma 3"),
    *("P. O. Box 123", "RR 12 Box 7", "Postfach 12 34", "SW1A 1AA", "New York NY 10001-1234", "Unter den Linden 5"),
    *("May 5th, 1984", "March the 3rd 1990", "2024-May-05", "20240305", "2024.03.05", "3/4/1999", "12.12.99"),
    *("5 of May 1984", "2024年5月3日", "a.b(at)example(dot)org", "a [ at ] b . com", "anna dot k at example dot org"),
    *("123.456.789-09", "756.1234.5678.97", "85.07.30-033.28", "1 85 05 78 006 084 36", "ABCD850730HDFXYZ09"),
    *("RSSMRA85M01H501Z", "AB 12 34 56 C", "S1234567D", "X1234567L", "131052-308T", "850730-1234567", "900-70-1234"),
    *("IP:2001:db8::1", "fe80::1%eth0/64", "10.0.0.1/24", "+ (49) 30 901820", "1-800-642-7676", "2016/2019/2021"),
    *("4111 1111 1111 1111 123", "3782-822463-10005", "de89370400440532013000x", "driver's license D123-4567"),
)
GLUE = (*(" ", ", ", "\n", ". ", "", "-", "/", "\0", "(", "+", "the ", " at ", " dot ", ": ", "1"), *"é\u0131$\u2019")


def mixed(seed: int) -> str:
    """Values and parts of values, after each other."""
    chance = random.Random(seed)
    parts = []
    for _ in range(chance.choice((2, 5, 40))):
        value = chance.choice((*VALUES, *OTHERS, *WRITTEN))
        cut = chance.randrange(len(value))
        kept = (value, value[:cut], value[cut:], value[:cut] + chance.choice(GLUE) + value[cut:], value.upper())
        parts += [chance.choice(kept), chance.choice(GLUE)]
    return plain_copies("".join(parts))[0].text


@settings(deadline=None)
@given(st.integers(0, 10**9))
def test_rules_for_what_is_written_out_find_the_same_as_everywhere(seed: int) -> None:
    text = mixed(seed)
    everywhere = [
        (kind, *match.span())
        for kind, rules in rules_of("personal").items()
        for rule in rules
        for match in rule.finditer(text)
    ]
    found = [(kind, *match.span()) for kind, match in written.written_matches(Places(text))]
    assert sorted(found) == sorted(everywhere)


@settings(deadline=None)
@given(st.integers(0, 10**9))
def test_recognizers_and_rules_for_numbers_find_the_same_as_everywhere(seed: int) -> None:
    text = mixed(seed)
    places = Places(text)
    everywhere = {
        (result.start, result.end, kind)
        for kind, recognizers in finding._recognizers().items()
        for one in recognizers
        for result in one.analyze(text, one.supported_entities)
        if result.score >= finding.MIN_SCORE
    }
    assert set(finding._recognized(places)) == everywhere
    rules = rules_of("numbers")
    starts = list(numbers._phone_starts(places))
    assert all(match.start() in starts for match in rules["phone"][0].finditer(text))
    card = [match.span() for match in rules["card"][0].finditer(text) if numbers.luhn(match[0])]
    assert set(card) <= {(start, end) for start, end, _ in cards(places)}


@pytest.mark.parametrize("number", ["2881067", "1-800-642-7676", "16.57.22011101", "2016/2019/2021", "0044 43 1234567"])
def test_regions_that_are_left_out_hold_no_telephone_number(number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    some = set(numbers._telephones(number))
    monkeypatch.setattr(numbers, "_possible_regions", lambda _: numbers.REGIONS)
    assert some == set(numbers._telephones(number))


def test_letters_that_a_rule_without_case_takes_for_ascii() -> None:
    """Python's rules take them for letters of ASCII, so small letters must, too, at the same offsets."""
    for code in range(0x80, 0x20000):
        letter = chr(code)
        if 0xD800 <= code < 0xE000:
            continue
        assert len(fold(letter)) == 1
        if re.fullmatch("(?i)[a-z]", letter):
            assert fold(letter) in "isk"


def test_an_account_with_a_turkish_letter_is_read() -> None:
    assert list(accounts(Places("Xİ12 3456 7890 1234 5678"))) == []


@pytest.mark.parametrize(
    "text", ["", "1", "12", "1234", "12345678", "a1", "x 12,", "(", "+", "0 0", "@", ":", "1:", "年"]
)
def test_texts_that_end_early(text: str) -> None:
    assert finding.find_personal(text) == []


def test_counts_of_the_next_characters() -> None:
    places = Places("a12b3")
    assert count_within(places.digit, 2).tolist() == [1, 2, 1, 1, 1]
    assert count_within(places.digit, 9).tolist() == [3, 3, 2, 1, 1]
    assert places.dense(3, 4).tolist() == [1]
    assert list(Phones().find(places)) == []


def test_many_addresses_in_one_line_take_time_in_proportion() -> None:
    finding.find_personal("12 Baker Street")
    for value in ("10.0.0.1,", "Weg 1,", "P.O. Box 1,", "a(at)b.com,", "12 A St,", "ab12,"):
        short, long = (processor_seconds(partial(finding.find_personal, value * n), 1) for n in (300, 3_000))
        assert long < 40 * max(short, 0.02), value
    assert regions.joined_regions("1" * 5_000)
