# ruff: noqa: RUF001
from __future__ import annotations

import pytest

from sizewise.text import sentences_of
from tests.languages import PASSAGES


def test_sentences() -> None:
    assert sentences_of("One. Two is 3.5 long! Three?\nFour") == ["One.", "Two is 3.5 long!", "Three?", "Four"]


def test_sentences_of_every_script() -> None:
    assert sentences_of("我们开门。你好吗？他说「好。」然后走了。") == [
        "我们开门。",
        "你好吗？",
        "他说「好。」",
        "然后走了。",
    ]
    assert sentences_of("वह आया। वह गया।") == ["वह आया।", "वह गया।"]
    assert sentences_of("See e.g. this. That too.\nand a line") == ["See e.g. this.", "That too.", "and a line"]


@pytest.mark.parametrize("language", sorted(PASSAGES))
def test_paragraphs_are_split_into_sentences_in_every_language(language: str) -> None:
    for passage in PASSAGES[language]:
        sentences = sentences_of(passage.text)
        assert len(sentences) >= 2
        assert "".join("".join(sentences).split()) == "".join(passage.text.split())


@pytest.mark.parametrize(
    "sentence",
    [
        "Wir haben z. B. Äpfel und d. h. Obst von Dr. Weber.",
        "Der Markt öffnet am 3. Mai um 9.30 Uhr.",
        "J. Smith met Mrs. Hall on Monday.",
    ],
)
def test_a_period_of_an_abbreviation_ends_no_sentence(sentence: str) -> None:
    assert sentences_of(f"{sentence} Then we left.") == [sentence, "Then we left."]


def test_a_sentence_may_end_with_a_number() -> None:
    assert sentences_of("Wir waren 12. Dann kamen zwei. So do I. We go.") == [
        "Wir waren 12.",
        "Dann kamen zwei.",
        "So do I.",
        "We go.",
    ]


def test_khmer_burmese_armenian_and_ethiopic_sentences() -> None:
    assert sentences_of("ខ្ញុំទៅផ្សារ។ អ្នកនៅផ្ទះ។") == ["ខ្ញុំទៅផ្សារ។", "អ្នកនៅផ្ទះ។"]
    assert sentences_of("သူသွားသည်။ သူလာသည်။") == ["သူသွားသည်။", "သူလာသည်။"]
    assert sentences_of("Նա եկավ։ Նա գնաց։") == ["Նա եկավ։", "Նա գնաց։"]
    assert sentences_of("እሱ መጣ። እሷ ሄደች።") == ["እሱ መጣ።", "እሷ ሄደች።"]
