from __future__ import annotations

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from sizewise.text import graphemes_of, shorten_text
from tests.languages import PASSAGES

EMOJI = "👩\u200d👩\u200d👧🇩🇪🇫🇷👍🏽❤\ufe0f1\ufe0f\u20e3"


@pytest.mark.parametrize("language", sorted(PASSAGES))
def test_characters_are_those_of_the_regex_package(language: str) -> None:
    text = "\r\n".join(passage.text for passage in PASSAGES[language])
    assert graphemes_of(text) == regex.findall(r"\X", text)


@pytest.mark.parametrize("text", [EMOJI, "e\u0301o\u0308x", "각\u1112\u1161\u11ab글", "a\r\nb\n\r", "\u0301a", ""])
def test_marks_joined_emoji_and_jamo_stay_with_their_letter(text: str) -> None:
    assert graphemes_of(text) == regex.findall(r"\X", text)


@given(st.text(st.sampled_from("ab \n\r\u0301\u200d👍🏽🇩ก\u0e33क\u094d한\ud55c"), max_size=30))
def test_no_character_is_lost(text: str) -> None:
    assert "".join(graphemes_of(text)) == text


def test_a_text_is_cut_between_characters_only() -> None:
    assert shorten_text("क्षमा", 4) == "क्ष"
    assert shorten_text("👩\u200d👩\u200d👧x", 3) == ""
    assert shorten_text("abcdef", 4, "…") == "abc…"
    assert shorten_text("abcd", 4, "…") == "abcd"
