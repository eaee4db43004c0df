"""Excel files whose sheets are tables of rows."""

from __future__ import annotations

import datetime
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sizewise.documents import ReadOptions, read_paths, spreadsheets
from sizewise.errors import SizewiseError
from tests.clock import processor_seconds

openpyxl = pytest.importorskip("openpyxl")


def book(path: Path, **sheets: list[list[Any]]) -> Path:
    made = openpyxl.Workbook()
    made.remove(made.active)
    for name, rows in sheets.items():
        sheet = made.create_sheet(name)
        for row in rows:
            sheet.append(row)
    made.save(path)
    return path


def rows(count: int) -> list[list[Any]]:
    return [[i, f"Wo ist Paket {i}?", f"Bei Tür {i}, 3. Stock"] for i in range(count)]


@pytest.mark.parametrize("above", [[], [[None, None, None]]])
def test_a_sheet_with_known_headings_is_a_table(tmp_path: Path, above: list[Any]) -> None:
    path = book(tmp_path / "x.xlsx", Fragen=[*above, ["ID", "Question", "Answer"], *rows(30)])
    reading = read_paths([path])
    assert [(e.id, e.prompt, e.references) for e in reading.examples] == [
        (str(i), f"Wo ist Paket {i}?", (f"Bei Tür {i}, 3. Stock",)) for i in range(30)
    ]
    assert dict(reading.forms) == {"question + answer": 30}


def test_headings_can_be_named(tmp_path: Path) -> None:
    path = book(tmp_path / "x.xlsx", Fragen=[["Nr", "Kundenfrage", "Antwort"], *rows(3)])
    found = read_paths([path], ReadOptions(prompt="Kundenfrage", reference="Antwort")).examples
    assert next(iter(found)).references == ("Bei Tür 0, 3. Stock",)


def test_a_table_read_as_text_names_its_columns(tmp_path: Path) -> None:
    found = [[f"Where is my parcel number {i}, please?", ("Billing", "Shipping")[i % 2]] for i in range(30)]
    path = book(tmp_path / "x.xlsx", Tickets=[["Ticket text", "Team"], *found])
    reading = read_paths([path])
    assert any("--prompt 'Ticket text' --label Team" in note for note in reading.notes), reading.notes


def test_every_sheet_counts_and_others_are_named(tmp_path: Path) -> None:
    table = [["prompt", "answer"], *([f"Q{i}?", "A"] for i in range(3))]
    path = book(
        tmp_path / "x.xlsx", eins=table, zwei=[*table[:1], ["Noch?", "Ja"]], Notizen=[["Stand", "heute"]], leer=[]
    )
    reading = read_paths([path])
    assert len(reading.examples) == 4
    assert "x.xlsx: sheets without known headings, not read: Notizen" in reading.notes


def test_numbers_dates_and_truth_keep_their_meaning_and_errors_are_rejected(tmp_path: Path) -> None:
    given = [3, 4.5, True, datetime.date(2026, 3, 1), "007", 1e21]
    table = [["prompt", "answer"], *([f"Q{i}?", value] for i, value in enumerate(given))]
    table += [["Wrong?", "#N/A"], ["No answer?", None]]
    with pytest.raises(SizewiseError) as error:
        read_paths([book(tmp_path / "x.xlsx", a=table)])
    assert "line 8: a cell holds the error #N/A" in error.value.what
    assert "line 9: the reference answer is missing: 'answer' is empty" in error.value.what
    found = read_paths([tmp_path / "x.xlsx"], ReadOptions(0.5)).examples
    assert [e.references[0] for e in found] == ["3", "4.5", "true", "2026-03-01", "007", "1e+21"]


def test_damaged_files_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "x.xlsx").write_bytes(b"PK no archive")
    with pytest.raises(SizewiseError, match="not a zip file"):
        read_paths([tmp_path / "x.xlsx"])
    with zipfile.ZipFile(tmp_path / "y.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", "<x/>" * 100)
    with pytest.raises(SizewiseError, match="xlsx, damaged or protected"):
        read_paths([tmp_path / "y.xlsx"])


def test_without_the_package_the_install_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = book(tmp_path / "x.xlsx", a=[["prompt", "answer"], ["Q", "A"]])
    monkeypatch.setattr(spreadsheets, "find_spec", lambda name: None)
    with pytest.raises(SizewiseError, match=r"\[documents\]"):
        read_paths([path])


def raw(path: Path, rows: str, after: str = "", dimension: str = "") -> Path:
    """Write a sheet from its XML, with inline texts."""
    source = book(path, Fragen=[["x"]])
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    members[sheet] = (
        '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
        f"{dimension}<sheetData>{rows}</sheetData>{after}</worksheet>"
    ).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def line(number: int, **cells: str) -> str:
    made = "".join(f'<c r="{c}{number}" t="inlineStr"><is><t>{text}</t></is></c>' for c, text in cells.items())
    return f'<row r="{number}">{made}</row>'


def test_a_wrong_dimension_hides_no_rows(tmp_path: Path) -> None:
    lines = line(1, A="prompt", B="answer") + "".join(line(n, A=f"Q{n}?", B="A") for n in range(2, 52))
    found = read_paths([raw(tmp_path / "x.xlsx", lines, dimension='<dimension ref="A1:B3"/>')])
    assert len(found.examples) == 50


def test_a_cell_far_to_the_right_rejects_its_row_and_costs_no_time(tmp_path: Path) -> None:
    lines = line(1, A="prompt", B="answer") + "".join(line(n, A=f"Q{n}?", B="A") for n in range(2, 302))
    lines = lines.replace("</row>", '<c r="XFD7" t="inlineStr"><is><t/></is></c></row>')
    lines += line(400, A="Q?", B="A", XFD="y") + line(401, A="Noch?", B="A")
    path = raw(tmp_path / "x.xlsx", lines)
    found = read_paths([path])
    assert len(found.examples) == 301
    assert [row.reason for row in found.rejected] == ["cell XFD400 holds a value, but its column has no heading"]
    assert processor_seconds(lambda: read_paths([path])) < 5


def test_long_numbers_keep_their_digits(tmp_path: Path) -> None:
    number = '<row r="2"><c r="A2"><v>17</v></c><c r="B2"><v>12345678901234567890</v></c></row>'
    lines = line(1, A="prompt", B="answer") + number
    (example,) = read_paths([raw(tmp_path / "x.xlsx", lines)]).examples
    assert (example.prompt, example.references) == ("17", ("12345678901234567890",))


def test_merged_cells_are_filled_down(tmp_path: Path) -> None:
    lines = line(1, A="prompt", B="answer", C="group", D="source")
    lines += line(2, A="Q2?", B="A", C="Kunde 3", D="帮助") + line(3, A="Q3?", B="A") + line(4, A="Q4?", B="A")
    merged = '<mergeCells count="2"><mergeCell ref="C2:C3"/><mergeCell ref="D2:D9"/></mergeCells>'
    found = list(read_paths([raw(tmp_path / "x.xlsx", lines, merged)]).examples)
    assert [(e.group, e.source) for e in found] == [("Kunde 3", "帮助"), ("Kunde 3", "帮助"), ("", "帮助")]


def test_cells_are_read_as_the_sheet_shows_them(tmp_path: Path) -> None:
    day = datetime.datetime.fromisoformat("2026-03-01")
    table: list[tuple[Any, str, str]] = [
        (4.5, "0.00", "4.50"),
        (1234.5, "#,##0.00", "1234.50"),
        (7, "00000", "00007"),
        (0.125, "0%", "12%"),
        (0.125, "0.0%", "12.5%"),
        (1.5, "0.0#", "1.5"),
        (-3.25, '0.00" EUR";[Red]-0.00', "-3.25"),
        (1234567890123456.0, "General", "1234567890123456"),
        (0.1 + 0.2, "General", "0.3"),
        (day, "dd.mm.yyyy", "2026-03-01"),
        (day, "dd.mm.yyyy hh:mm", "2026-03-01T00:00:00"),
        (day.replace(hour=9, minute=30), "dd.mm.yyyy", "2026-03-01T09:30:00"),
        (datetime.timedelta(hours=30, minutes=5), "[h]:mm:ss", "30:05:00"),
        (datetime.time(9, 5), "hh:mm", "09:05:00"),
    ]
    made = openpyxl.Workbook()
    made.active.append(["prompt", "answer"])
    for number, (value, number_format, _) in enumerate(table, start=2):
        made.active.append([f"Q{number}?", value])
        made.active.cell(number, 2).number_format = number_format
    made.save(tmp_path / "x.xlsx")
    found = read_paths([tmp_path / "x.xlsx"]).examples
    assert [e.references[0] for e in found] == [text for _, _, text in table]


@pytest.mark.parametrize("titles", [[["FAQ 2026"]], [["Hilfe"], [], [None, "Stand: März"]]])
def test_titles_above_the_headings_are_skipped(tmp_path: Path, titles: list[list[Any]]) -> None:
    path = book(tmp_path / "x.xlsx", a=[*titles, ["ID", "Question", "Answer"], *rows(3)])
    assert [e.prompt for e in read_paths([path]).examples] == [f"Wo ist Paket {i}?" for i in range(3)]


def test_formulas_without_a_result_are_named(tmp_path: Path) -> None:
    table = [["prompt", "answer", "length"], *([f"Q{i}?", "A", "=LEN(B2)"] for i in range(30)), ["Q?", "=A1", 3]]
    reading = read_paths([book(tmp_path / "x.xlsx", a=table)])
    assert len(reading.examples) == 30
    assert [row.reason.split(";")[0] for row in reading.rejected] == ["the formula in B32 has no stored result"]
    assert "x.xlsx: formulas without a stored result in 31 rows, read as empty" in reading.notes


def test_sheets_named_after_splits_keep_them_and_ids_name_the_sheet(tmp_path: Path) -> None:
    table = [["prompt", "answer"], ["Q?", "A"]]
    found = list(read_paths([book(tmp_path / "x.xlsx", train=table, Test=table, weitere=table)]).examples)
    assert [(e.id, e.split) for e in found] == [
        ("x.xlsx:train:2", "train"), ("x.xlsx:Test:2", "test"), ("x.xlsx:weitere:2", None),
    ]  # fmt: skip


@pytest.mark.parametrize("count", [1, 60])
def test_a_sheet_that_breaks_off_is_damaged(tmp_path: Path, count: int) -> None:
    lines = line(1, A="prompt", B="answer") + "".join(line(n, A=f"Q{n}?", B="A") for n in range(2, 2 + count))
    with pytest.raises(SizewiseError, match=r"xlsx, damaged or protected \(ParseError\)"):
        read_paths([raw(tmp_path / "x.xlsx", lines + "<row r='99'><c>")])
