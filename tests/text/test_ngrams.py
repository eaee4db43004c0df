from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizewise.text import SeenText, pieces_of, words_of
from sizewise.text.ngrams import common_ngrams

CHINESE = "读者进入本馆须出示借阅证并将随身物品存放在入口处的储物柜中"
THAI = "ผู้อ่านทุกคนต้องแสดงบัตรห้องสมุดที่ทางเข้าและเก็บกระเป๋าไว้ในตู้ล็อกเกอร์ก่อนเข้าห้องอ่านหนังสือ"


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


@pytest.mark.parametrize("text", [CHINESE, THAI])
def test_a_copy_with_another_character_is_found_where_no_blanks_stand(text: str) -> None:
    seen = SeenText()
    seen.add([f"前{text}后"])
    middle = len(text) // 8
    changed = seen.look_up(f"{text[:middle]}x{text[middle:]}")
    assert not changed.exact
    assert changed.shared_words > len(words_of(text)) / 2
    assert seen.look_up(text[::-1]).shared_words == 0


def test_a_short_phrase_of_thai_is_no_copy() -> None:
    seen = SeenText()
    seen.add([THAI])
    assert seen.look_up(f"กขค{THAI[4:30]}กขค").shared_words == 0


def test_what_a_template_holds_is_no_evidence() -> None:
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
