"""CSV files as spreadsheets of several countries write them."""

from __future__ import annotations

import io

import pytest

from sizewise.controls import cell_number, csv_rows


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_header_tells_the_delimiter(delimiter: str) -> None:
    cells = [["rater", "item", "note"], ["a", "1", "x y"], ["b", "2", "z"]]
    text = "".join(delimiter.join(row) + "\r\n" for row in cells)
    reader = csv_rows(io.StringIO(text, newline=""))
    assert [list(row.values()) for row in reader] == cells[1:]
    assert reader.line_num == 3
    assert list(csv_rows(io.StringIO("prompt\na, b; c\n", newline=""))) == [{"prompt": "a", None: [" b; c"]}]
    assert list(csv_rows([])) == []


def test_numbers_with_a_decimal_comma() -> None:
    for text, value in (
        ("20", 20),
        ("20.5", 20.5),
        ("20,5", 20.5),
        ("-0,125", -0.125),
        ("1e-3", 0.001),
        ("1.500", 1.5),
    ):
        assert cell_number(f" {text} ") == value
    assert cell_number("0.125", commas=True) == 0.125
    for text, commas in (("1,500", False), ("1.500", True), ("12,345", True)):
        with pytest.raises(ValueError, match="may mean"):
            cell_number(text, commas=commas)
    for text in ("1.500,5", "1,500.5", "1,2,3", "much", ""):
        with pytest.raises(ValueError, match="could not convert"):
            cell_number(text)
