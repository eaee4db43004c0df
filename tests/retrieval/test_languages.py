# ruff: noqa: RUF001
"""Search, passages and support in seven languages."""

from __future__ import annotations

import unicodedata

import pytest

from sizewise.documents.reading import make_document
from sizewise.retrieval import Library, Passage, cut
from sizewise.retrieval.terms import numbers_of, terms_of
from sizewise.text import count_words, sentences_of
from tests.languages import PASSAGES

LANGUAGES = sorted(PASSAGES)


@pytest.fixture(scope="module")
def libraries() -> dict[str, tuple[Library, list[Passage]]]:
    passages = {
        language: cut([make_document(f"{i}", "", passage.text, "") for i, passage in enumerate(of_language)])
        for language, of_language in PASSAGES.items()
    }
    return {language: (Library(found, learn=False), found) for language, found in passages.items()}


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_question_finds_its_passage(libraries: dict[str, tuple[Library, list[Passage]]], language: str) -> None:
    library, _ = libraries[language]
    best = [library.find(passage.question).hits[0].passage.document for passage in PASSAGES[language]]
    assert best == [f"{i}" for i in range(12)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_sentence_is_supported_by_its_own_passage_only(
    libraries: dict[str, tuple[Library, list[Passage]]], language: str
) -> None:
    library, passages = libraries[language]
    for i, passage in enumerate(passages):
        for sentence in sentences_of(passage.text):
            assert library.support(sentence, [passage])[1] > 0.99
            assert library.support(sentence, [passages[(i + 1) % 12]])[1] < 0.4


@pytest.mark.parametrize("language", LANGUAGES)
def test_nearly_every_answer_is_supported(libraries: dict[str, tuple[Library, list[Passage]]], language: str) -> None:
    library, passages = libraries[language]
    known = zip(PASSAGES[language], passages, strict=True)
    assert sum(library.support(source.answer, [passage])[1] > 0.6 for source, passage in known) >= 11


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_long_text_without_line_breaks_is_cut_without_losing_or_adding_a_character(language: str) -> None:
    text = "".join(passage.text for passage in PASSAGES[language] * 3).replace("。", "，").replace(". ", ", ")
    passages = cut([make_document("d", "", text, "")])
    assert len(passages) > 3
    assert max(count_words(passage.text) for passage in passages) <= 161
    joined = "".join("".join(passage.text.split()) for passage in passages)
    assert joined == "".join(text.split())
    if language in ("zh", "ja"):
        assert not any(" " in passage.text for passage in passages)
    assert not any(unicodedata.combining(passage.text[0]) for passage in passages)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("مَكْتَبَة المَدينة", "مكتبة المدينة"),
        ("كتـــاب", "كتاب"),
        ("Biblio\u00adthek", "Bibliothek"),
        (unicodedata.normalize("NFD", "Überfahrt"), "Überfahrt"),
        ("ｌｉｂｒａｒｙ", "library"),
        ("हिन्\u200dदी", "हिन्दी"),
    ],
)
def test_terms_do_not_depend_on_the_spelling(one: str, other: str) -> None:
    assert terms_of(one) == terms_of(other) != []


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1,200", "1200"), ("1 200", "1200"), ("1.200,00", "1200"), ("1,200.00", "1200"), ("1\u202f200", "1200"),
        ("१,२००", "1200"), ("١٬٢٠٠", "1200"), ("١٢٠٠٫٥", "1200.5"), ("１，２００", "1200"), ("1’200", "1200"),
        ("1,00,000", "100000"), ("12,34,567.5", "1234567.5"), ("๑๒๐๐", "1200"),
    ],
)  # fmt: skip
def test_a_number_is_its_value_in_every_way_of_writing(written: str, value: str) -> None:
    assert value in numbers_of(written)
    assert terms_of(written)[0] == value


def test_an_address_ends_where_chinese_begins() -> None:
    passage = Passage("d", "", "", "请访问https://example.com/a，然后登录。邮箱：help@example.com。")
    library = Library([passage], learn=False)
    assert library.support("请访问https://example.com/a然后登录。", [passage])[1] > 0.6
    assert library.support("请访问https://example.com/b然后登录。", [passage])[1] == 0
    english = Passage("e", "", "", "Open https://example.com/a, then log in.")
    assert Library([english], learn=False).support("Log in at https://example.com/a.", [english])[1] > 0.6


@pytest.mark.parametrize(
    ("text", "same", "opposite"),
    [
        ("Hunde dürfen in das Museum.", "Hunde dürfen in das Museum.", "Hunde dürfen nicht in das Museum."),
        ("Le chien entre dans le musée.", "Le chien entre dans le musée.", "Le chien n'entre pas dans le musée."),
        ("这座博物馆允许带狗。", "博物馆允许带狗。", "博物馆不允许带狗。"),
        ("कुत्ते संग्रहालय में आ सकते हैं।", "कुत्ते संग्रहालय में आ सकते हैं।", "कुत्ते संग्रहालय में नहीं आ सकते हैं।"),
        ("Dogs may enter, but cats may not enter.", "Dogs may enter.", "Dogs may not enter."),
    ],
)
def test_a_negated_sentence_is_not_supported(text: str, same: str, opposite: str) -> None:
    passage = Passage("d", "", "", text)
    library = Library([passage], learn=False)
    assert library.support(same, [passage])[1] > 0.6
    assert library.support(opposite, [passage])[1] == 0
