"""Read the sheets of an Excel file that have headings of rows as tables."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from sizewise.documents.decoding import Unreadable
from sizewise.documents.tables import Row, cell_row, column_name
from sizewise.errors import install_command

KINDS = (".xlsx", ".xlsm")
_SEARCHED_ROWS = 20


class SheetRows(NamedTuple):
    """The rows of the sheets that are tables of rows."""

    rows: Iterator[Row]
    others: tuple[str, ...]
    """Names of the other sheets, unless they are empty."""


def sheet_rows(path: Path, known: frozenset[str]) -> SheetRows | None:
    """Return the rows of the sheets with at least one known heading; None if there is no such sheet.

    The line of a row is its number in the sheet.

    Args:
        path: The Excel file.
        known: Known column names.

    Raises:
        Unreadable: The package openpyxl is missing, or the file is damaged or protected.
    """
    if find_spec("openpyxl") is None:
        raise Unreadable(f"{path.suffix.lower()}, needs {install_command('documents')}")
    book = _open(path)
    found: list[tuple[Any, int, list[str]]] = []
    others = []
    for sheet in book.worksheets:
        place = _headings(sheet, known)
        if place is not None:
            found.append((sheet, *place))
        elif next(sheet.iter_rows(values_only=True, max_row=1), None):
            others.append(str(sheet.title))
    if not found:
        book.close()
        return None
    return SheetRows(_rows(book, found), tuple(others))


def _open(path: Path) -> Any:
    import openpyxl

    try:
        return openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
    except Exception as error:  # the parser fails in many ways on damaged files
        raise Unreadable(f"{path.suffix.lower()}, damaged or protected ({type(error).__name__})") from error


def _headings(sheet: Any, known: frozenset[str]) -> tuple[int, list[str]] | None:
    """Find the row of headings near the top: the number of the row, and the normalized headings."""
    for number, cells in enumerate(sheet.iter_rows(values_only=True, max_row=_SEARCHED_ROWS), start=1):
        if any(cell is not None for cell in cells):
            names = [column_name(cell) if isinstance(cell, str) else "" for cell in cells]
            filled = [name for name in names if name]
            return (number, names) if known.intersection(names) and len(filled) == len(set(filled)) else None
    return None


def _rows(book: Any, sheets: Sequence[tuple[Any, int, list[str]]]) -> Iterator[Row]:
    try:
        for sheet, top, headings in sheets:
            for number, cells in enumerate(sheet.iter_rows(min_row=top + 1), start=top + 1):
                wrong = next((cell.value for cell in cells if cell.data_type == "e"), None)
                values = [_text(cell.value) for cell in cells]
                if wrong is not None:
                    yield Row(number, {}, f"a cell holds the error {wrong}")
                elif any(values):
                    yield cell_row(number, values, headings, "")
    finally:
        book.close()


def _text(value: Any) -> str:
    """Return a cell as text: dates in ISO 8601, whole numbers without a point."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    return value if isinstance(value, str) else f"{value:.15g}"
