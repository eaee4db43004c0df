from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizewise.text import count_words, normalize_text, pieces_of, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's 3.5 km, OK?", ["it", "s", "3", "5", "km", "ok"]),
        ("借阅证，OK 3 次", ["借", "阅", "证", "ok", "3", "次"]),  # noqa: RUF001
        ("傘は入口", ["傘", "は", "入", "口"]),
        ("मराठी में लिखें", ["मराठी", "में", "लिखें"]),
        ("தமிழ் மொழி", ["தமிழ்", "மொழி"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("서울에서 만나요", ["서울에서", "만나요"]),
        ("Mu\u0308ller MÜLLER Strasse STRAßE", ["müller", "müller", "strasse", "strasse"]),
        ("می\u200cخواهم co\u00adoperate", ["میخواهم", "cooperate"]),  # noqa: RUF001
        ("مَكْتَبَة", ["مَكْتَبَة"]),
        ("𠮷野家", ["𠮷", "野", "家"]),
    ],
)
def test_words_of_scripts_with_and_without_blanks(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@given(st.text())
def test_pieces_make_up_the_text(text: str) -> None:
    assert "".join(pieces_of(text)) == text


def test_pieces_are_what_stands_between_blanks_or_a_character() -> None:
    assert pieces_of("Don't go, 3.5 km.") == ["Don't", " go,", " 3.5", " km."]
    assert pieces_of("借阅证。OK") == ["借", "阅", "证", "。OK"]


def test_normalized_texts_differ_in_neither_white_space_nor_unicode_form() -> None:
    assert normalize_text(" Mu\u0308ller\u00a0\n and\tson ") == "M\u00fcller and son"


@pytest.mark.parametrize(("text", "count"), [("Two words.", 2), ("读者进入本馆", 3), ("a" * 60, 2.5), ("", 0)])
def test_count_words(text: str, count: float) -> None:
    assert count_words(text) == count
