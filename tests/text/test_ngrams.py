from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizewise.text import words_of
from sizewise.text.ngrams import (
    NGRAM,
    hash_words,
    isin_sorted,
    join_words,
    left_out,
    letters_of,
    ngrams,
    seed_lengths,
    seeds,
)

CHINESE = "读者进入本馆须出示借阅证并将随身物品存放在入口处的储物柜中"
THAI = "ผู้อ่านทุกคนต้องแสดงบัตรห้องสมุดที่ทางเข้าและเก็บกระเป๋าไว้ในตู้ล็อกเกอร์ก่อนเข้าห้องอ่านหนังสือ"


def shared_words(training: str, test: str) -> int:
    known = np.unique(ngrams(hash_words(training), NGRAM).hashes)
    words = hash_words(test)
    found = ngrams(words, NGRAM)
    return int(found.covered(isin_sorted(found.hashes, known), len(words)).sum())


@pytest.mark.parametrize("text", [CHINESE, THAI])
def test_a_copy_with_another_character_is_found_in_scripts_without_spaces(text: str) -> None:
    middle = len(text) // 8
    assert shared_words(f"前{text}后", f"{text[:middle]}x{text[middle:]}") > len(words_of(text)) / 2
    assert shared_words(f"前{text}后", text[::-1]) == 0


def test_a_short_thai_phrase_is_not_a_copy() -> None:
    assert shared_words(THAI, f"กขค{THAI[4:30]}กขค") == 0


@given(st.lists(st.sampled_from(["ab", "cd", "आप", "的", "ก", "ข"]), min_size=40, max_size=90))
def test_a_verbatim_copy_is_found_in_any_mix_of_scripts(words: list[str]) -> None:
    text = " ".join(words)
    assert shared_words(f"x {text} y", text.upper()) > 0


@given(st.lists(st.sampled_from("abcdefg"), min_size=13, max_size=60))
def test_a_verbatim_copy_is_always_found(words: list[str]) -> None:
    text = " ".join(words)
    assert shared_words(text, text.upper()) == len(words)
    assert hash_words(text).whole() == hash_words(text.upper()).whole()


def test_copied_words_only_are_counted() -> None:
    training = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    copied = "Zero! One, two three four five six seven eight nine ten eleven twelve thirteen. Other words."
    assert shared_words(training, copied) == 13
    assert shared_words(training, "one two three four five six seven eight nine ten eleven twelve other") == 0


def test_no_ngram_crosses_words_that_are_left_out() -> None:
    template = " ".join(f"rule{i}" for i in range(20))
    common = np.unique(ngrams(hash_words(template), NGRAM).hashes)
    words = hash_words(f"before {template} " + " ".join(f"own{i}" for i in range(14)))
    mask = left_out(words, common)
    assert mask is not None
    assert mask.sum() == 20
    assert ngrams(words, NGRAM, mask).starts.tolist() == [21, 22]


@given(st.lists(st.text(st.sampled_from("ab. กข的"), max_size=30), min_size=1, max_size=5))
def test_paragraphs_joined_are_the_text(paragraphs: list[str]) -> None:
    joined = join_words([hash_words(paragraph) for paragraph in paragraphs])
    whole = hash_words("\n\n".join(paragraphs))
    assert joined.words == whole.words
    assert ngrams(joined, 3).hashes.tolist() == ngrams(whole, 3).hashes.tolist()


def test_hashes_are_the_same_on_every_machine() -> None:
    assert hash_words("The end").hashes.tolist() == [3331141520948189790, 3100485708770080102]
    found = seeds(letters_of(hash_words("A text that is long enough for a few seeds of it")), seed_lengths(1000))
    again = seeds(letters_of(hash_words("a text that is long enough for a few SEEDS of it!")), seed_lengths(1000))
    assert found[1].tolist() == again[1].tolist() != []
