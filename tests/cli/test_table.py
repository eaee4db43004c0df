"""Tables fit the terminal without breaking words, and are plain text through a pipe."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sizewise.cli.table import as_csv, render, shorten, text_width

WORDS = st.text(st.characters(categories=["Ll", "Nd"], max_codepoint=0x24F), min_size=1, max_size=12)
CELLS = st.lists(WORDS, min_size=1, max_size=6).map(" ".join)


def test_each_row_is_one_line_through_a_pipe() -> None:
    lines = render(["candidate", "BLEU"], [["a model", "1.5 [1.2, 1.8]"], ["b", "10"]], None)
    assert lines == [
        "candidate            BLEU",
        "---------  --------------",
        "a model    1.5 [1.2, 1.8]",
        "b                      10",
    ]


def test_cells_wrap_between_words_and_intervals_stay_whole() -> None:
    lines = render(["candidate", "quality"], [["a model of many words", "1.5 [1.2, 1.8]"]], 22)
    assert max(map(len, lines)) <= 22
    assert any("[1.2, 1.8]" in line for line in lines)
    assert {"a", "model", "of", "many", "words"} <= set(" ".join(lines).split())


def test_a_uri_is_shortened_in_the_middle_and_an_id_is_not() -> None:
    uri = "recorded:/a/long/path/to/some/folder/with/answers.jsonl"
    lines = render(["model", "id"], [[uri, "comparison-1234567890"]], 48)
    assert max(map(len, lines)) <= 48
    assert "comparison-1234567890" in lines[2]
    assert lines[2].startswith("recorded:")
    assert "…" in lines[2]
    assert "jsonl" in lines[2]
    time, signature = "2026-11-28T10:23:12", "bleu|case:mixed|items:all"
    assert time in " ".join(render(["model", "time"], [[uri, time]], 48))
    assert signature in " ".join(render(["model", "signature"], [[uri, signature]], 48))
    assert shorten("abcdefghij", 5) == "ab…ij"
    assert shorten("abc", 5) == "abc"


def test_a_table_that_cannot_fit_becomes_a_list() -> None:
    headings = [f"heading{i}" for i in range(9)]
    lines = render(headings, [[f"value{i}" for i in range(9)]], 40)
    assert lines[0] == "value0"
    assert lines[1:] == [f"  heading{i}: value{i}" for i in range(1, 9)]


def test_wide_characters_count_twice() -> None:
    assert text_width("模型") == 4
    lines = render(["name", "n"], [["模型", "1"], ["abcd", "2"]], 80)
    assert lines[2] == "模型  1"
    assert lines[3] == "abcd  2"


def test_csv_is_read_back() -> None:
    rows = [["a, b", 'say "x"'], ["two\nlines", ""]]
    assert list(csv.reader(io.StringIO(as_csv(["x", "y"], rows)))) == [["x", "y"], *rows]


@pytest.mark.parametrize("width", [40, 80])
@settings(deadline=None)
@given(rows=st.lists(st.lists(CELLS, min_size=4, max_size=4), min_size=1, max_size=4))
def test_no_word_is_broken_at_any_width(width: int, rows: list[list[str]]) -> None:
    lines = render(["a", "b", "c", "d"], rows, width)
    assert all(text_width(line) <= max(width, 4 * 12) for line in lines)
    shown = set(" ".join(lines).split())
    assert {word for row in rows for cell in row for word in cell.split()} <= shown
