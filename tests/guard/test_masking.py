"""What is masked comes back as it was, however the answer is cut; nothing else is touched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("presidio_analyzer")

from sizewise.guard import Mask, Unmask

TEXT = "Write to anna@example.org, call +49 30 901820 or [anna@example.org] again; SSN 536-90-4399."


def masked(text: str) -> tuple[Mask, str]:
    mask = Mask([text])
    return mask, mask.hide(text)


def test_the_same_value_has_the_same_token_and_the_text_holds_none_of_it() -> None:
    mask, hidden = masked(TEXT)
    assert "anna@" not in hidden
    assert "901820" not in hidden
    assert len(mask.values) == 3
    assert mask.counts == {"email": 2, "phone": 1, "national_id": 1}
    assert hidden.count(next(token for token in mask.values if token.startswith("EMAIL"))) == 2


@given(st.lists(st.integers(1, 9), max_size=80), st.text(max_size=30))
def test_the_text_is_restored_wherever_it_is_split(sizes: list[int], more: str) -> None:
    text = TEXT + more
    mask, hidden = masked(text)
    back = Unmask(mask.values)
    parts = []
    at = 0
    for size in [*sizes, len(hidden)]:
        parts.append(back.feed(hidden[at : at + size]))
        at += size
    assert "".join([*parts, back.finish()]) == text


def test_changed_and_repeated_tokens() -> None:
    mask, hidden = masked("to anna@example.org")
    token = next(iter(mask.values))
    assert hidden == f"to [{token}]"
    back = Unmask(mask.values)
    said = f"{token.lower()} and [{token.replace('_', ' ')}] and ({token.replace('_', '-')}) and [{token}"
    assert back.restore(said) == "anna@example.org and anna@example.org and (anna@example.org) and [anna@example.org"
    assert Unmask(mask.values).restore(token[:-1]) == token[:-1]
    assert Unmask(mask.values).restore(token.replace("1", "2", 1)) == token.replace("1", "2", 1)


def test_text_that_imitates_a_token_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = iter(["BBBB", "BBBB", "CCCC"])
    monkeypatch.setattr("sizewise.guard.masking._nonce", lambda: next(draws))
    text = "I say [EMAIL_1_BBBB] and [EMAIL_1_ZZZZ], mail anna@example.org"
    mask, hidden = masked(text)
    assert hidden == "I say [EMAIL_1_BBBB] and [EMAIL_1_ZZZZ], mail [EMAIL_1_CCCC]"
    assert Unmask(mask.values).restore(hidden) == text


def test_only_the_beginning_of_a_token_is_held_back() -> None:
    mask, _ = masked("to anna@example.org")
    back = Unmask(mask.values)
    assert back.feed("Dear [EMA") == "Dear "
    assert back.feed("lice]") == "[EMAlice]"
    assert back.feed("[") == ""
    assert back.finish() == "["


def test_nothing_to_hide() -> None:
    mask, hidden = masked("nothing of anybody")
    assert hidden == "nothing of anybody"
    assert Unmask(mask.values).feed("[EMAIL_1_") == "[EMAIL_1_"
