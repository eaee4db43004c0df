from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizewise.text import fold_text, legible_text, phrase_pattern, visible_text, words_of
from sizewise.text.normalization import compatibility_form
from tests.languages import PASSAGES


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ｂ", "b"),  # noqa: RUF001
        ("Müller", unicodedata.normalize("NFD", "MÜLLER")),
        ("co\u00adoperate", "cooperate"),
        ("the fitter\u2019s  office", "The fitter's office"),
        ("９９\u00a0km", "99 km"),  # noqa: RUF001
        ("Straße", "STRASSE"),
        ("ﬁt", "fit"),
        ("İstanbul", "istanbul"),
        ("non\u2011stop", "non-stop"),
        ("كتـــاب", "كتاب"),
    ],
)
def test_one_text_in_two_forms_is_one(one: str, other: str) -> None:
    assert fold_text(one) == fold_text(other)


@pytest.mark.parametrize(("one", "other"), [("10²", "102"), ("½", "1/2"), ("काम", "कम"), ("ば", "は"), ("H₂O", "h20")])
def test_what_differs_stays_different(one: str, other: str) -> None:
    assert fold_text(one) != fold_text(other)
    assert words_of(one) != words_of(other)


@given(st.text())
def test_folding_twice_changes_nothing_more(text: str) -> None:
    assert fold_text(fold_text(text)) == fold_text(text)


@pytest.mark.parametrize("language", sorted(PASSAGES))
def test_words_do_not_depend_on_the_unicode_form(language: str) -> None:
    for passage in PASSAGES[language]:
        assert words_of(unicodedata.normalize("NFD", passage.text)) == words_of(passage.text)
        assert len(words_of(passage.text)) > 25


def test_visible_text_keeps_case_and_white_space() -> None:
    assert visible_text("Mu\u0308ll\u00ader \n X") == "Müller \n X"
    assert compatibility_form("ＡＢ²") == "AB²"


@pytest.mark.parametrize(
    ("phrase", "text", "found"),
    [
        ("加急", "这封信应按加急件处理", True),
        ("b", "答案是b。", True),
        ("spam", "spammer", False),
        ("कम", "यह कमी है", False),
        ("कम", "यह कम है", True),
        ("ด่วน", "จดหมายด่วนมาก", True),
        ("ดวน", "จดหมายด่วนมาก", False),
        ("$5", "it is $50", False),
        ("c++", "use c++ here", True),
    ],
)
def test_a_phrase_is_found_as_whole_words_of_its_script(phrase: str, text: str, found: bool) -> None:
    assert bool(phrase_pattern(phrase).search(text)) is found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pay\u200bment\r\nto\x85x", "payment\nto\nx"),
        ("u\u0308ber \uff21\u00ad", "\u00fcber A"),
        ("\u0e01\u200b\u0e02", "\u0e01\u200b\u0e02"),
        ("a\x00\tb\x1fc", "a\tb c"),
        ("\U0001f3f4\U000e0067\u2764\ufe0f", "\U0001f3f4\u2764"),
    ],
)
def test_a_legible_text_is_what_a_reader_sees(text: str, expected: str) -> None:
    assert legible_text(text) == expected
    assert legible_text(expected) == expected
