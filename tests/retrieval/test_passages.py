"""Passages are cut by structure: sections, paragraphs, tables with their header, blocks of code, overlap."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sizewise.documents.reading import make_document
from sizewise.errors import UsageError
from sizewise.retrieval import Library, Passage, cut


def passages(text: str, max_words: int = 160, overlap: int = 0) -> list[Passage]:
    return cut([make_document("a", "A", text, "x")], max_words, overlap)


def test_each_part_of_a_table_has_the_header() -> None:
    table = "| part | price |\n|---|--:|\n" + "\n".join(f"| bolt{i} | {i} euros |" for i in range(60))
    parts = passages(f"# Prices\n\nAll prices in euros.\n\n{table}", 50)
    tables = [part for part in parts if "bolt" in part.text]
    assert len(tables) > 3
    assert all("| part | price |\n|---|--:|" in part.text and part.heading == "Prices" for part in tables)
    assert sorted(line for part in tables for line in part.text.splitlines() if "bolt" in line) == sorted(
        f"| bolt{i} | {i} euros |" for i in range(60)
    )


def test_a_comment_in_a_block_of_code_is_no_heading() -> None:
    code = "```sh\n# Install it\n\nmake install\n\n# Run it\n\nmake run\n```"
    parts = passages(f"# Guide\n\nText.\n\n{code}\n\n## Next\n\nMore.")
    assert [part.heading for part in parts] == ["Guide", "Guide: Next"]
    assert code in parts[0].text
    endless = passages("# Guide\n\n```\nnever closed\n\n## Next\n\nMore.")
    assert {part.heading for part in endless} == {"Guide", "Guide: Next"}
    assert "never closed" in "".join(part.text for part in endless)


def test_a_passage_repeats_the_end_of_the_one_before() -> None:
    sentences = [f"Sentence number {i} stands here." for i in range(40)]
    plain, overlapping = passages(" ".join(sentences), 40), passages(" ".join(sentences), 40, 10)
    for one, following in pairwise(overlapping):
        assert following.text.startswith(one.text.splitlines()[-2])
    assert len(overlapping) > len(plain)
    assert all(len(part.text.split()) <= 40 for part in overlapping)
    assert {line for part in plain for line in part.text.splitlines()} == set(sentences)
    sections = passages("# One\n\n" + " ".join(sentences[:9]) + "\n\n# Two\n\n" + " ".join(sentences[9:18]), 40, 20)
    assert not any("number 8 " in part.text for part in sections if part.heading == "Two")


@pytest.mark.parametrize(("max_words", "overlap"), [(0, 0), (5, 0), (100, 51), (100, -1), (100, 100)])
def test_lengths_that_make_no_sense_are_refused(max_words: int, overlap: int) -> None:
    with pytest.raises(UsageError):
        passages("Some text.", max_words, overlap)


def test_a_byte_order_mark_and_indentation_hide_no_heading() -> None:
    parts = passages("\ufeff# One\n\nFirst.\n\n  ## Two\n\nSecond.")
    assert [part.heading for part in parts] == ["One", "One: Two"]


def test_the_name_of_a_file_is_no_title_if_the_text_begins_with_one() -> None:
    def titles(name: str, title: str, text: str) -> set[str]:
        return {passage.title for passage in cut([make_document(name, title, text, "x")])}

    text = "# Stable\n\n## Opening\n\nIt opens at nine.\n\n# Other\n\nMore."
    assert titles("a/d18.md", "d18", text) == {"Stable"}
    assert titles("a/d18.md", "d18.md", text) == {"Stable"}
    assert titles("a/d18.md", "The old stable", text) == {"The old stable"}
    assert titles("a/d18.md", "d18", "Text.\n\n# Stable\n\nMore.") == {"d18"}


def test_a_passage_knows_the_headings_above_it() -> None:
    parts = passages(
        "# Router X100\n\n## Warranty\n\nTwo years.\n\n### Battery\n\nOne year.\n\n# Router X200\n\n## Warranty\n\n"
        "Three years."
    )
    assert [(part.heading, part.text) for part in parts] == [
        ("Router X100: Warranty", "Two years."),
        ("Router X100: Warranty: Battery", "One year."),
        ("Router X200: Warranty", "Three years."),
    ]
    pytest.importorskip("bm25s")
    assert Library(parts, learn=False).find("warranty of the X200", 1).hits[0].passage.text == "Three years."
    (titled,) = cut([make_document("guide.md", "guide", "# Guide\n\n## Next\n\nMore.", "x")])
    assert (titled.title, titled.heading) == ("Guide", "Next")


def test_a_heading_needs_no_blank_line() -> None:
    text = (
        "# Travel\nBook early.\n## Hotels\nUp to 120 euros.\n### Breakfast in C# ###\nIncluded.\n# Sick\nCall by nine."
    )
    assert [(part.heading, part.text) for part in passages(text)] == [
        ("Travel", "Book early."),
        ("Travel: Hotels", "Up to 120 euros."),
        ("Travel: Hotels: Breakfast in C#", "Included."),
        ("Sick", "Call by nine."),
    ]
    settings = "port = 80\n# the host\nhost = x"
    assert [(part.heading, part.text) for part in passages(settings)] == [("", settings)]
    code = "```\n# a comment\nmake\n## another\n```\nDone."
    assert [(part.heading, part.text) for part in passages(f"# Setup\n{code}")] == [("Setup", code)]
    inline = passages("```x``` is a command.\n\n## Next\n\nMore.\n\n```y``` is one, too.")
    assert [part.heading for part in inline] == ["", "Next"]


def test_headings_without_text_are_in_a_passage() -> None:
    parts = passages("# Holidays\n\n## 24 December\n\n## 25 December\n\n# Hours\n\nNine to five.")
    assert [(part.heading, part.text) for part in parts] == [
        ("Hours", "Nine to five."),
        ("Holidays", "24 December\n25 December"),
    ]
    (alone,) = cut([make_document("t.md", "t", "# Only a title", "x")])
    assert (alone.title, alone.text) == ("Only a title", "Only a title")
    (part,) = cut([make_document("t.md", "t", "# Title\n\n# Part\n\nText.", "x")])
    assert part.text == "Text."
    many = passages("# List\n\n" + "\n\n".join(f"## Entry number {i}" for i in range(100)), 40)
    assert max(len(part.text.split()) for part in many) <= 40
    assert "\n".join(part.text for part in many).split("\n") == [f"Entry number {i}" for i in range(100)]


def test_underlined_headings_and_front_matter_are_read() -> None:
    def titles(text: str) -> set[str]:
        return {passage.title for passage in cut([make_document("a/d18.md", "d18", text, "x")])}

    table = "No heading | at all\n---|---\n1 | 2"
    text = f"Travel policy\n=============\n\nBook early.\n\nHotels\n------\nUp to 120 euros.\n\n{table}"
    assert [(part.heading, part.text) for part in passages(text)] == [
        ("Travel policy", "Book early."),
        ("Travel policy: Hotels", f"Up to 120 euros.\n{table}"),
    ]
    assert titles(text) == {"Travel policy"}
    assert titles('---\ntitle: "The stable"\ntags: [x]\n---\n\n# Opening\n\nNine.') == {"The stable"}
    assert titles("---\ntags: [x]\n---\n\n# Opening\n\nNine.") == {"Opening"}
    assert titles("A rule.\n\n---\n\ntitle: no front matter") == {"d18"}
