from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizewise.datasets import copies
from sizewise.datasets.copies import Copies
from sizewise.text.ngrams import hash_words, letters_of

UNITS = ["words", "letters"]
EDITS = ["replace", "drop", "move"]


def alphabet_text(rng: random.Random, words: int) -> str:
    vocabulary = [
        "".join(rng.choice("bdfgklmnprst") + rng.choice("aeiou") for _ in range(n)) for n in (1, 2, 2, 3, 3, 4)
    ]
    vocabulary += ["".join(rng.choice("bdfgklmnprst") + rng.choice("aeiou") for _ in range(3)) for _ in range(200)]
    return " ".join(rng.choice(vocabulary) for _ in range(words))


def script_text(first: int, last: int, size: int) -> object:
    def make(rng: random.Random, words: int) -> str:
        letters = [chr(rng.randint(first, last)) for _ in range(size)]
        return "".join(rng.choice(letters) for _ in range(words * 2))

    return make


SCRIPTS = {
    "latin": alphabet_text,
    "han": script_text(0x4E00, 0x5E00, 600),
    "thai": script_text(0x0E01, 0x0E2E, 40),
    "hangul": lambda rng, words: " ".join(
        "".join(chr(rng.randint(0xAC00, 0xAC00 + 400)) for _ in range(3)) for _ in range(words)
    ),
    "arabic": lambda rng, words: " ".join(
        "".join(chr(rng.randint(0x0627, 0x063A)) for _ in range(5)) for _ in range(words)
    ),
}


def edited(text: str, edit: str, unit: str, rng: random.Random) -> str:
    parts = text.split(" ") if unit == "words" and " " in text else list(text)
    chosen = set(rng.sample(range(len(parts)), max(1, len(parts) // 10)))
    if edit == "replace":
        parts = [rng.choice(parts) if i in chosen else part for i, part in enumerate(parts)]
    else:
        taken = [parts[i] for i in sorted(chosen)]
        parts = [part for i, part in enumerate(parts) if i not in chosen]
        for part in taken if edit == "move" else ():
            parts.insert(rng.randrange(len(parts) + 1), part)
    return (" " if unit == "words" and " " in text else "").join(parts)


@pytest.mark.parametrize("script", SCRIPTS)
def test_edited_copies_are_found_and_other_texts_are_not(script: str, tmp_path: Path) -> None:
    rng = random.Random(script)
    make = SCRIPTS[script]
    training = [make(rng, 120) for _ in range(150)]  # type: ignore[operator]
    planted = [(edit, unit, i) for i in range(12) for edit in EDITS for unit in UNITS]
    tests = [edited(training[i], edit, unit, rng) for edit, unit, i in planted]
    fresh = [make(rng, 120) for _ in range(100)]  # type: ignore[operator]
    found = Copies(tmp_path, sum(map(len, training)))
    for text in training:
        found.add(letters_of(hash_words(text)))
    for number, text in enumerate([*tests, *fresh]):
        found.look_for(letters_of(hash_words(text)), number)
    pairs = {(copy.part, copy.item) for copy in found.found()}
    right = [(number, i) in pairs for number, (_, _, i) in enumerate(planted)]
    assert np.mean(right) >= 0.95
    assert {part for part, _ in pairs if part >= len(planted)} == set()


def test_a_copy_within_a_longer_text_is_found(tmp_path: Path) -> None:
    rng = random.Random(3)
    training = [alphabet_text(rng, 2_000) for _ in range(5)]
    part = " ".join(training[3].split()[700:760])
    found = Copies(tmp_path, sum(map(len, training)))
    for text in training:
        found.add(letters_of(hash_words(text)))
    found.look_for(letters_of(hash_words(f"{alphabet_text(rng, 40)} {edited(part, 'drop', 'letters', rng)}")), 0)
    assert {copy.item for copy in found.found()} == {3}


def test_text_of_a_fixed_form_is_no_copy(tmp_path: Path) -> None:
    rng = random.Random(9)
    nouns = ["patient", "device", "record", "account", "system", "order", "value", "plan", "claim", "person"]
    verbs = ["names", "holds", "describes", "gives", "lists", "marks"]

    def record() -> str:
        return " ".join(
            f"The {rng.choice(nouns)} {rng.choice(verbs)} the {rng.choice(nouns)} of the {rng.choice(nouns)}."
            for _ in range(30)
        )

    training = [record() for _ in range(40)]
    found = Copies(tmp_path, sum(map(len, training)))
    for text in training:
        found.add(letters_of(hash_words(text)))
    for number in range(40):
        found.look_for(letters_of(hash_words(record())), number)
    for number in range(40):
        found.look_for(letters_of(hash_words(edited(training[number], "replace", "letters", rng))), 100 + number)
    copies_of = {copy.part for copy in found.found()}
    assert not {part for part in copies_of if part < 100}
    assert len(copies_of) >= 20  # with so few words, a tenth of other letters makes many of them another record


def test_nothing_is_found_in_nothing(tmp_path: Path) -> None:
    found = Copies(tmp_path, 0)
    found.look_for(letters_of(hash_words("")), 0)
    found.look_for(letters_of(hash_words("a text without any training text")), 1)
    assert list(found.found()) == []


@given(st.text("abcd", max_size=40), st.text("abcd", max_size=60))
def test_common_letters_without_the_library_are_the_same(one: str, other: str) -> None:
    distance = pytest.importorskip("rapidfuzz.distance")
    assert copies._common_subsequence(one, other) == distance.LCSseq.similarity(one, other)
