"""Passages are cut by structure: sections, paragraphs, tables with their header, blocks of code, overlap."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sizewise.documents.reading import make_document
from sizewise.errors import UsageError
from sizewise.retrieval import Passage, cut


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
    assert [part.heading for part in parts] == ["Guide", "Next"]
    assert code in parts[0].text
    endless = passages("# Guide\n\n```\nnever closed\n\n## Next\n\nMore.")
    assert {part.heading for part in endless} == {"Guide", "Next"}
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
    assert [part.heading for part in parts] == ["One", "Two"]


def test_the_name_of_a_file_is_no_title_if_the_text_begins_with_one() -> None:
    def titles(name: str, title: str, text: str) -> set[str]:
        return {passage.title for passage in cut([make_document(name, title, text, "x")])}

    text = "# Stable\n\n## Opening\n\nIt opens at nine.\n\n# Other\n\nMore."
    assert titles("a/d18.md", "d18", text) == {"Stable"}
    assert titles("a/d18.md", "d18.md", text) == {"Stable"}
    assert titles("a/d18.md", "The old stable", text) == {"The old stable"}
    assert titles("a/d18.md", "d18", "Text.\n\n# Stable\n\nMore.") == {"d18"}
