# ruff: noqa: RUF001 - texts of many scripts
"""One long file becomes its chapters, in many languages and forms, without losing a word."""

from __future__ import annotations

import re

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from sizewise.documents.chapters import MIN_LENGTH, PIECE, chapters_of, headings_of
from sizewise.documents.reading import make_document
from sizewise.records import Document

SENTENCES = {
    "en": "The harbor office opens at eight and closes at noon on Saturdays. ",
    "de": "Das Hafenamt öffnet um acht Uhr und schließt am Samstag um zwölf Uhr. ",
    "zh": "港口办公室周六上午八点开门\uff0c中午十二点关门\uff0c周日全天休息。",
    "ru": "Портовое управление открывается в восемь и закрывается в полдень. ",
    "ar": "يفتح مكتب الميناء في الثامنة ويغلق ظهرا أيام السبت. ",
    "th": "สำนักงานท่าเรือเปิดเวลาแปดโมงและปิดตอนเที่ยงวันเสาร์ ",
}


def handbook(headings: list[str], language: str = "en", paragraphs: int = 12) -> Document:
    """Write a chapter of some length under each heading."""
    body = [f"{heading}\n\n" + f"{SENTENCES[language] * 3}{n}\n\n" * paragraphs for n, heading in enumerate(headings)]
    return make_document("handbook.md", "handbook", "".join(body).strip(), "handbook.md", "MIT")


def titles_of(document: Document) -> list[str]:
    return [chapter.title for chapter in chapters_of(document)]


FORMS = [
    ("en", "# Chapter about berth {n}"),
    ("en", "### Berth {n}"),
    ("en", "Chapter {n}"),
    ("en", "CHAPTER {n}. Fees and dues"),
    ("en", "Appendix {n}: Forms"),
    ("en", "§ {n} Fees of berth holders"),
    ("en", "Section {n}"),
    ("en", "{n}. Fees of berth holders"),
    ("en", "{n}.1 Fees of berth holders"),
    ("en", "**{n}. Fees of berth holders**"),
    ("de", "Kapitel {n}: Gebühren"),
    ("de", "Artikel {n}"),
    ("de", "{n} Über die Gebühren"),
    ("zh", "第{n}章 费用"),
    ("zh", "第{n}节"),
    ("ru", "Глава {n}. Сборы"),
    ("ru", "Статья {n}"),
    ("ar", "الفصل {n}"),
    ("th", "บทที่ {n} ค่าธรรมเนียม"),
]


@pytest.mark.parametrize(("language", "form"), FORMS)
def test_a_handbook_is_cut_at_its_headings(language: str, form: str) -> None:
    headings = [form.format(n=n) for n in range(1, 11)]
    document = handbook(headings, language, 20)
    chapters = chapters_of(document)
    assert [chapter.title for chapter in chapters] == [heading.strip("#* ") for heading in headings]
    assert [chapter.id for chapter in chapters] == [f"handbook.md#{chapter.title}" for chapter in chapters]
    assert "\n\n".join(chapter.text for chapter in chapters) == document.text
    assert {(chapter.origin, chapter.license, chapter.group) for chapter in chapters} == {("handbook.md", "MIT", "")}
    assert len({chapter.sha256 for chapter in chapters}) == len(chapters)


def test_roman_and_chinese_numerals_and_words() -> None:
    assert (
        titles_of(handbook([f"Part {n}" for n in ("I", "II", "III", "IV", "V", "VI", "VII", "VIII")]))[3] == "Part IV"
    )
    assert titles_of(handbook([f"第{n}条" for n in "一二三四五六七八九十"], "zh", 30))[9] == "第十条"
    assert titles_of(handbook([f"Chapter {n}" for n in ("One", "Two", "Three")]))[0] == "Chapter One"
    arabic = titles_of(handbook([f"الفصل {n}" for n in ("الأول", "الثاني", "الثالث")], "ar", 20))
    assert {"الفصل الأول", "الفصل الثاني", "الفصل الثالث"} <= set(arabic)


def test_underlined_headings() -> None:
    assert titles_of(handbook([f"Berth {n}\n=======" for n in range(8)])) == [f"Berth {n}" for n in range(8)]


def test_the_coarsest_level_with_enough_chapters_is_taken() -> None:
    parts = [f"# Part {n}\n\n## Dues {n}\n\n{SENTENCES['en'] * 9}\n\n## Fees {n}" for n in range(4)]
    assert titles_of(handbook(parts))[:3] == ["Part 0: Dues 0", "Fees 0", "Part 1: Dues 1"]
    assert titles_of(handbook([f"# Part {n}\n\n## Fees {n}" for n in range(9)]))[0] == "Part 0"


def test_tables_of_contents_and_running_headers_start_no_chapter() -> None:
    names = [f"Chapter {n} Berths of dock {chr(65 + n)}" for n in range(8)]
    contents = "\n\n".join(f"{name} ........ {n}" for n, name in enumerate(names)) + "\n\n" + "\n\n".join(names)
    header = "\n\nChapter 9 Harbor handbook\n\n"
    document = handbook(names)
    text = f"{contents}\n\n" + re.sub(r"5\n\n", f"5{header}", document.text)
    titles = titles_of(document.model_copy(update={"text": text}))
    assert titles.count("Chapter 9 Harbor handbook") <= 1
    assert [title for title in titles if title in names] == names


def test_lines_that_only_look_like_headings() -> None:
    lines = (
        "1. Open the valve\n2. Close the valve\n\nPart of the fee is due.\n\n12 boats were counted.\n\n§ 5 applies.\n"
    )
    code = "```\n# a comment\n```\n"
    assert [heading.title for heading in headings_of(lines + code + "| a |\n---\n")] == []


def test_a_text_without_headings_is_cut_at_paragraphs_and_a_short_one_stays_whole() -> None:
    plain = make_document("a.txt", "a", "\n\n".join(f"({n}) {SENTENCES['en'] * 4}".strip() for n in range(60)), "a.txt")
    pieces = chapters_of(plain)
    assert len(pieces) >= 8
    assert "\n\n".join(piece.text for piece in pieces) == plain.text
    assert max(len(piece.text) for piece in pieces) < 3 * min(len(piece.text) for piece in pieces)
    short = handbook([f"# {n}" for n in range(8)], paragraphs=1)
    assert len(short.text) < MIN_LENGTH
    assert chapters_of(short) == [short]
    block = make_document("b.txt", "b", "word " * 5_000, "b.txt")
    assert chapters_of(block) == [block]


def test_two_long_chapters_are_cut_further() -> None:
    pieces = chapters_of(handbook(["# Fees", "# Dues"], paragraphs=60))
    assert len(pieces) >= 8
    assert [piece.title for piece in pieces][:2] == ["Fees", "Fees 2"]


def test_equal_headings_get_distinct_ids() -> None:
    ids = [chapter.id for chapter in chapters_of(handbook(["# Summary"] * 8))]
    assert ids[:3] == ["handbook.md#Summary", "handbook.md#Summary (2)", "handbook.md#Summary (3)"]


LINES = st.sampled_from(
    ["# One", "## Two", "Chapter 3", "第四章", "1.2 Title", "§ 5", "", "", "Words. " * 30, "===", "```", "a|b"]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(LINES, min_size=40, max_size=150))
def test_no_word_is_lost(lines: list[str]) -> None:
    document = make_document("a", "a", "\n".join(lines).strip() or "a", "a")
    chapters = chapters_of(document)
    assert "".join("".join(chapter.text for chapter in chapters).split()) == "".join(document.text.split())
    assert len({chapter.id for chapter in chapters}) == len(chapters)


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(f"The ship number {i} came late and left early again." for i in range(600)),
        " ".join(f"The ship number {i} came late and left early again." for i in range(600)),
        "".join(f"第{i}艘船晚到了，又早早地离开了港口。" for i in range(900)),
    ],
)
def test_a_long_text_without_blank_lines_is_cut_at_lines_or_sentences(text: str) -> None:
    found = chapters_of(make_document("a", "a", text, "a.txt"))
    assert len(found) >= 4
    assert max(len(one.text) for one in found) < 2 * PIECE
    assert "".join("".join(one.text for one in found).split()) == "".join(text.split())
    assert all(one.text.endswith((".", "。")) for one in found)


@pytest.mark.parametrize(
    "heading",
    [
        *("Kapitola 3", "3. fejezet", "Capitolul 3", "Poglavlje 3", "3 skyrius", "1. luku", "Drittes Kapitel"),
        *("فصل اول", "Third Chapter", "Chapter 3", "Kapitel 3: Der Hafen", "Első fejezet"),
    ],
)
def test_headings_of_many_languages(heading: str) -> None:
    text = f"{'The harbor opens. ' * 30}\n\n{heading}\n\n{'A ship came late. ' * 30}"
    assert heading in [one.title for one in headings_of(text)]
