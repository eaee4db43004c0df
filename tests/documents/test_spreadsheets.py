"""Excel files whose sheets are tables of rows."""

from __future__ import annotations

import datetime
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sizewise.documents import ReadOptions, read_paths, spreadsheets
from sizewise.errors import SizewiseError

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
    assert [e.references[0] for e in found] == ["3", "4.5", "true", "2026-03-01T00:00:00", "007", "1e+21"]


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
