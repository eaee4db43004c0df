"""Laws of the streamed parsers: in whatever pieces a text comes, its rows are those of the standard library."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sizewise.documents.decoding import Unreadable
from sizewise.documents.tables import cell_rows, json_rows, list_rows
from sizewise.documents.text_lines import TextLines

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.lists(st.dictionaries(TEXTS, VALUES, max_size=4), max_size=5)


def in_pieces(text: str, size: int) -> Iterator[str]:
    return (text[start : start + size] for start in range(0, len(text), size))


@given(OBJECTS, st.integers(1, 40), st.sampled_from([None, 1]), st.booleans())
def test_a_list_in_pieces_has_the_rows_of_the_whole(rows: Any, size: int, indent: int | None, ascii: bool) -> None:
    text = json.dumps(rows, indent=indent, ensure_ascii=ascii)
    found = list(list_rows(in_pieces(text, size)))
    assert [row.cells for row in found] == rows
    assert all(not row.problem for row in found)
    assert [row.line for row in found] == sorted(row.line for row in found)


@given(OBJECTS.filter(len), st.integers(1, 40), st.data())
def test_an_invalid_element_does_not_hide_the_others(rows: Any, size: int, data: st.DataObject) -> None:
    texts = [json.dumps(row) for row in rows]
    place = data.draw(st.integers(0, len(rows)))
    texts.insert(place, '{"a": [1, "}]\\"", nonsense], "b": {}}')
    found = list(list_rows(in_pieces(f"[{', '.join(texts)}]", size)))
    assert [row.cells for row in found if not row.problem] == rows
    assert [i for i, row in enumerate(found) if row.problem] == [place]


@given(OBJECTS.filter(len), st.integers(1, 40), st.data())
def test_a_list_that_breaks_off_is_unreadable(rows: Any, size: int, data: st.DataObject) -> None:
    text = json.dumps(rows)
    end = data.draw(st.integers(1, len(text) - 1))
    with pytest.raises(Unreadable, match="invalid at line 1"):
        list(list_rows(in_pieces(text[:end], size)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(TEXTS, TEXTS), max_size=6),
    st.sampled_from(",;\t|"),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_a_table_has_the_cells_of_the_csv_module(
    tmp_path: Path, rows: list[tuple[str, str]], between: str, end: str, encoding: str
) -> None:
    rows = [(a, b) for a, b in rows if (a + b).strip() and "\0" not in a + b and "\ufeff" not in a + b]
    written = io.StringIO()
    writer = csv.writer(written, delimiter=between, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([("prompt", "answer"), *rows])
    path = tmp_path / "x.csv"
    path.write_bytes(written.getvalue().encode(encoding))
    found = list(cell_rows(TextLines(path), frozenset(("prompt",))))
    assert [(row.cells["prompt"], row.cells["answer"]) for row in found] == rows


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.sampled_from(["jsonl", "csv", "json"]))
def test_any_bytes_are_rows_or_a_reason(tmp_path: Path, raw: bytes, kind: str) -> None:
    path = tmp_path / f"x.{kind}"
    path.write_bytes((b"prompt,answer\n" if kind == "csv" else b'{"a": 1}\n') + raw)
    try:
        file = TextLines(path)
        rows = list(cell_rows(file, frozenset(("prompt",))) if kind == "csv" else json_rows(file))
    except Unreadable:
        return
    assert all(row.line >= 1 and (row.cells or row.problem or raw) for row in rows)


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_ends_of_lines_of_all_systems_end_a_row(tmp_path: Path, end: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(end.join(["prompt;answer", *(f"Frage {i};Antwort" for i in range(5))]).encode())
    rows = list(cell_rows(TextLines(path), frozenset(("prompt",))))
    assert [(row.line, row.cells.get("prompt")) for row in rows] == [(i + 2, f"Frage {i}") for i in range(5)]


@pytest.mark.parametrize("count", [1, 3])
def test_objects_over_several_lines_are_rows(tmp_path: Path, count: int) -> None:
    path = tmp_path / "x.json"
    rows = [{"prompt": f"Où {i} ?", "answer": "Là."} for i in range(count)]
    path.write_text("\n".join(json.dumps(row, indent=2) for row in rows), encoding="utf-8")
    found = list(json_rows(TextLines(path)))
    assert [(row.line, row.cells) for row in found] == [(1 + 4 * i, row) for i, row in enumerate(rows)]
    path.write_text('{\n "prompt": "Q",\n "answer": "A"', encoding="utf-8")
    with pytest.raises(Unreadable, match="invalid at line 1"):
        list(json_rows(TextLines(path)))
