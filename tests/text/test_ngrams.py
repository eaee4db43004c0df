from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizewise.text import SeenText, words_of
from sizewise.text.ngrams import common_ngrams

CHINESE = "读者进入本馆须出示借阅证并将随身物品存放在入口处的储物柜中"
THAI = "ผู้อ่านทุกคนต้องแสดงบัตรห้องสมุดที่ทางเข้าและเก็บกระเป๋าไว้ในตู้ล็อกเกอร์ก่อนเข้าห้องอ่านหนังสือ"


@pytest.mark.parametrize("text", [CHINESE, THAI])
def test_a_copy_with_another_character_is_found_in_scripts_without_spaces(text: str) -> None:
    seen = SeenText()
    seen.add([f"前{text}后"])
    middle = len(text) // 8
    changed = seen.look_up(f"{text[:middle]}x{text[middle:]}")
    assert not changed.exact
    assert changed.shared_words > len(words_of(text)) / 2
    assert seen.look_up(text[::-1]).shared_words == 0


def test_a_short_thai_phrase_is_not_a_copy() -> None:
    seen = SeenText()
    seen.add([THAI])
    assert seen.look_up(f"กขค{THAI[4:30]}กขค").shared_words == 0


def test_overlap_with_a_template_is_not_counted() -> None:
    template = " ".join(f"rule{i}" for i in range(20))
    texts = [f"{template} own{i} words{i}" for i in range(4)]
    common = common_ngrams(texts, 3)
    seen = SeenText()
    seen.add(texts, common)
    assert seen.look_up(f"{template} another one", common)[1:3] == (0, False)
    assert seen.look_up(f"{template} another one").shared_words == 0
    assert common_ngrams(texts, 5) == frozenset()


@given(st.lists(st.sampled_from(["ab", "cd", "आप", "的", "ก", "ข"]), min_size=40, max_size=90))
def test_a_verbatim_copy_is_found_in_any_mix_of_scripts(words: list[str]) -> None:
    text = " ".join(words)
    seen = SeenText()
    seen.add([f"x {text} y"])
    found = seen.look_up(text.upper())
    assert found.shared_words > 0
    assert found.edited


def test_overlap_finds_copied_words_only() -> None:
    seen = SeenText()
    seen.add(["one two three four five six seven eight nine ten eleven twelve thirteen fourteen"])
    copied = "Zero! One, two three four five six seven eight nine ten eleven twelve thirteen. Other words."
    assert seen.look_up(copied) == (False, 13, True, 16)
    assert seen.look_up("one two three four five six seven eight nine ten eleven twelve other") == (False, 0, True, 13)
    whole = "ONE two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    assert seen.look_up(whole) == (True, 14, True, 14)


@given(st.lists(st.sampled_from("abcdefg"), min_size=13, max_size=60))
def test_a_verbatim_copy_is_always_found(words: list[str]) -> None:
    seen = SeenText()
    seen.add([" ".join(words)])
    exact, shared, _, total = seen.look_up(" ".join(words).upper())
    assert exact
    assert shared == total == len(words) == len(words_of(" ".join(words)))
