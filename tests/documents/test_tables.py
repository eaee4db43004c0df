"""Laws of the streamed parsers: in whatever pieces a text comes, its rows are those of the standard library."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sizewise.documents import Reading, ReadOptions, read_paths
from sizewise.documents.cell_tables import cell_rows
from sizewise.documents.decoding import Unreadable
from sizewise.documents.tables import json_rows, list_rows
from sizewise.documents.text_lines import TextLines
from sizewise.errors import SizewiseError

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


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
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
    if between == "\t":  # a line inside a cell that looks like a row is one
        rows = [row for row in rows if not any("\t" in cell and {"\n", "\r"} & set(cell) for cell in row)]
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


def read_table(tmp_path: Path, content: str, name: str = "x.csv", **options: Any) -> Reading:
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    return read_paths([tmp_path / name], ReadOptions(**options))


@pytest.mark.parametrize(
    ("cell", "answer"),
    [
        ('"Ja" sagte er', '"Ja" sagte er'),
        ('"Ja', '"Ja'),
        ('12" Rohr', '12" Rohr'),
        ('"Ja, ""sofort"""', 'Ja, "sofort"'),
        ('"Zeile 1\nZeile 2"', "Zeile 1\nZeile 2"),
        ("引用「是」", "引用「是」"),
    ],
)
def test_quotes_in_tab_separated_values_swallow_no_rows(tmp_path: Path, cell: str, answer: str) -> None:
    content = f"question\tanswer\nQ1?\t{cell}\n" + "".join(f'Q{i}?\tein "A" {i}"\n' for i in range(2, 9))
    found = list(read_table(tmp_path, content, "x.tsv").examples)
    assert [e.prompt for e in found] == [f"Q{i}?" for i in range(1, 9)]
    assert (found[0].references[0], found[1].references[0]) == (answer, 'ein "A" 2"')


def test_quoted_first_cells_may_have_line_breaks(tmp_path: Path) -> None:
    content = 'question\tanswer\n"Q1\nmehr?"\tA\n"Q2?\tB\nQ3?"\tC\n"Q4\nmehr?"\t"D\nE"\nQ5?\tF\n'
    found = list(read_table(tmp_path, content, "x.tsv").examples)
    assert [e.prompt for e in found] == ["Q1\nmehr?", '"Q2?', 'Q3?"', "Q4\nmehr?", "Q5?"]
    assert found[3].references == ("D\nE",)


def test_columns_without_a_heading_and_equal_headings_are_noted(tmp_path: Path) -> None:
    reading = read_table(tmp_path, "question,answer,,remark,Remark\nQ?,A,lost,x,y\nR?,B,,x,y\n")
    assert len(reading.examples) == 2
    assert "x.csv: column without a heading, not read: number 3" in reading.notes
    assert "x.csv: several columns are named 'remark'" in reading.notes
    with pytest.raises(SizewiseError, match="two columns are named 'answer'"):
        read_table(tmp_path, "question,answer,Answer\nQ?,A,B\n")


def test_titles_above_the_headings_of_a_table_are_skipped(tmp_path: Path) -> None:
    reading = read_table(tmp_path, "FAQ der Klinik\nStand: 1.3.2026, Rev. 4\n\nid;question;answer\n1;Q, wo?;A\n")
    assert [(e.id, e.prompt) for e in reading.examples] == [("1", "Q, wo?")]
    assert "x.csv: 3 lines above the headings, not read" in reading.notes


@pytest.mark.parametrize(
    ("headings", "command"),
    [
        ("Nr,Antwort,Frage", "--prompt Frage --reference Antwort"),
        ("ID,问题,答案", "--prompt '问题' --reference '答案'"),
        ("Kundenfrage,Unsere Antwort", "--prompt Kundenfrage --reference 'Unsere Antwort'"),
    ],
)
def test_the_next_command_names_the_columns_of_the_file(tmp_path: Path, headings: str, command: str) -> None:
    path = tmp_path / "x y.csv"
    with pytest.raises(SizewiseError) as error:
        read_table(tmp_path, f"{headings}\n1,needs two,three\n", path.name)
    assert error.value.next_step == f"sizewise read '{path}' {command}"


def test_headings_are_equal_in_composed_and_decomposed_characters(tmp_path: Path) -> None:
    content = unicodedata.normalize("NFD", "Schlüsselfrage,Erklärung\nQ?,A\n")
    options: Any = {"prompt": "Schlüsselfrage", "reference": unicodedata.normalize("NFC", "Erklärung")}
    assert len(read_table(tmp_path, content, **options).examples) == 1


def test_rows_of_one_line_have_ids_of_their_own(tmp_path: Path) -> None:
    listed = json.dumps([{"prompt": f"Q{i}?", "answer": "A"} for i in range(3)])
    assert [e.id for e in read_table(tmp_path, listed, "x.json").examples] == ["x.json:1", "x.json:1.2", "x.json:1.3"]
    lines = "\r".join(json.dumps({"prompt": f"Q{i}?", "answer": "A"}) for i in range(3))
    assert [e.id for e in read_table(tmp_path, lines, "x.jsonl").examples] == ["x.jsonl:1", "x.jsonl:2", "x.jsonl:3"]


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


@pytest.mark.parametrize(
    ("heading", "cell", "expected"),
    [
        ("answer", '{"price": 4.50}', '{"price": 4.50}'),
        ("completion", '{"price": 4.50}', '{"price": 4.50}'),
        ("answers", '{"text": ["links"], "answer_start": [3]}', "links"),
        ("completion", '[{"role": "assistant", "content": "links"}]', "links"),
        ("answer", "{'price': 4}", "{'price': 4}"),
    ],
)
def test_objects_in_cells_are_parsed_where_they_are_no_answers(
    tmp_path: Path, heading: str, cell: str, expected: str
) -> None:
    (example,) = read_table(tmp_path, f"prompt,{heading}\nQ?,{quoted(cell)}\n").examples
    assert example.references == (expected,)
    pair = f"prompt,chosen,rejected\nQ?,{quoted(json.dumps({'role': 'assistant', 'content': 'A'}))},B\n"
    assert [e.references for e in read_table(tmp_path, pair).examples] == [("A",)]


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        ("{'text': array(['a'], dtype=object), 'label': array(['A'])}", "dict, not a JSON object"),
        ("[{'text': 'a'}]", "list, not a JSON list"),
        ("array(['a', 'b'], dtype=object)", "array, not a JSON list"),
    ],
)
def test_values_as_python_prints_them_are_rejected(tmp_path: Path, cell: str, kind: str) -> None:
    with pytest.raises(SizewiseError, match=f"choices is a Python {kind}"):
        read_table(tmp_path, f"question,choices,answer\nQ?,{quoted(cell)},A\n")
