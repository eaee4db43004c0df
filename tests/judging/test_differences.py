"""Differences between two answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizewise.judging.differences import mark_differences


@given(st.text(max_size=60), st.text(max_size=60))
def test_the_parts_are_the_text(one: str, other: str) -> None:
    marked = mark_differences(one, other)
    if marked is not None:
        assert ["".join(text for text, _ in parts) for parts in marked] == [one, other]


@pytest.mark.parametrize(
    ("one", "other", "differs"),
    [
        ("You have 30 days to appeal", "You have 14 days to appeal", (["30"], ["14"])),
        ("Same words", "same  words", ([], [])),
        ("\u4f60\u6709\u4e09\u5341\u5929", "\u4f60\u6709\u5341\u56db\u5929", (["\u4e09"], ["\u56db"])),
    ],
)
def test_only_the_words_that_differ_are_marked(one: str, other: str, differs: tuple[list[str], list[str]]) -> None:
    marked = mark_differences(one, other)
    assert marked is not None
    assert tuple([text for text, changed in parts if changed] for parts in marked) == differs


def test_unlike_or_very_long_texts_are_not_marked() -> None:
    assert mark_differences("alpha beta gamma delta", "one two three four") is None
    assert mark_differences("", "one") is None
    assert mark_differences("word " * 5_000, "word " * 5_000) is None
