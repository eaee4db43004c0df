"""Read the sheets of an Excel file that have headings of rows as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from sizewise.documents.cell_tables import SEARCHED_ROWS, Headings, is_below_titles
from sizewise.documents.decoding import Unreadable
from sizewise.documents.sheet_cells import Marks, marks_of, shown
from sizewise.documents.tables import Row, column_name
from sizewise.documents.values import split_in
from sizewise.errors import install_command
from sizewise.records import Split

KINDS = (".xlsx", ".xlsm")
MAX_ROWS = 1_048_576
MAX_COLUMNS = 1_000
_LISTED = 5


class SheetRows(NamedTuple):
    """The rows of the sheets that are tables of rows."""

    rows: Iterator[Row]
    others: tuple[str, ...]
    """Names of the other sheets, unless they are empty."""
    notes: Sequence[str] = ()
    """Remarks on the tables, complete after the last row."""


class _Table(NamedTuple):
    """A sheet with known headings."""

    sheet: Any
    top: int
    headings: Headings
    marks: Marks
    split: Split | None = None


def sheet_rows(path: Path, known: frozenset[str]) -> SheetRows | None:
    """Return the rows of the sheets with at least one known heading; None if there is no such sheet.

    The line of a row is its number in the sheet. If several sheets are named after splits, their rows are in these.

    Args:
        path: The Excel file.
        known: Known column names.

    Raises:
        Unreadable: The package openpyxl is missing, or the file is damaged or protected.
    """
    if find_spec("openpyxl") is None:
        raise Unreadable(f"{path.suffix.lower()}, needs {install_command('documents')}")
    found: list[_Table] = []
    others = []
    with ExitStack() as files:
        try:
            book = _open(files.enter_context(path.open("rb")))
            files.callback(book.close)
            for sheet in book.worksheets:
                sheet.reset_dimensions()  # a wrong dimension would hide rows
                place = _headings(sheet, known)
                if place is not None:
                    found.append(_Table(sheet, *place, marks_of(sheet)))
                elif any(cell is not None for row in sheet.iter_rows(values_only=True, max_row=1) for cell in row):
                    others.append(str(sheet.title))
        except Exception as error:  # the parser fails in many ways on damaged sheets
            raise _damaged(path, error) from error
        if not found:
            return None
        opened = files.pop_all()
    splits = [split_in(str(table.sheet.title)) for table in found]
    if len(set(splits) - {None}) > 1:
        found = [table._replace(split=split) for table, split in zip(found, splits, strict=True)]
    notes: list[str] = []
    return SheetRows(_rows(path, opened, found, notes), tuple(others), notes)


def first_rows(path: Path, rows: int) -> tuple[tuple[str, ...], list[list[Any]]]:
    """Read the headings, known or not, and the first rows of the first sheet that has some; nothing if none has.

    Args:
        path: The Excel file.
        rows: How many rows are read.

    Raises:
        Unreadable: The package openpyxl is missing, or the file is damaged or protected.
    """
    if find_spec("openpyxl") is None:
        raise Unreadable(f"{path.suffix.lower()}, needs {install_command('documents')}")
    try:
        with path.open("rb") as content, closing(_open(content)) as book:
            for sheet in book.worksheets:
                sheet.reset_dimensions()
                read = islice(sheet.iter_rows(values_only=True, max_col=MAX_COLUMNS), SEARCHED_ROWS + rows)
                found = [list(cells) for cells in read]
                for number, cells in enumerate(found[:SEARCHED_ROWS]):
                    if sum(cell not in (None, "") for cell in cells) > 1:
                        headings = ["" if cell is None else str(cell).strip() for cell in cells]
                        while not headings[-1]:
                            headings.pop()
                        return tuple(headings), found[number + 1 :][:rows]
    except Exception as error:  # the parser fails in many ways on damaged sheets
        raise _damaged(path, error) from error
    return (), []


def _open(content: BinaryIO) -> Any:
    import openpyxl

    return openpyxl.load_workbook(content, read_only=True, data_only=True, keep_links=False)


def _headings(sheet: Any, known: frozenset[str]) -> tuple[int, Headings] | None:
    """Find the row of headings near the top, perhaps below titles, and its number."""
    titles: list[int] = []
    for number, cells in enumerate(sheet.iter_rows(values_only=True, max_row=SEARCHED_ROWS), start=1):
        filled = [cell for cell in cells if cell not in (None, "")]
        names = [column_name(cell) for cell in filled if isinstance(cell, str)]
        if known.intersection(names) and is_below_titles(len(filled), titles):
            try:
                return number, Headings(cells, known)
            except Unreadable:
                return None
        if filled:
            titles.append(len(filled))
    return None


def _damaged(path: Path, error: Exception) -> Unreadable:
    reason = f"{path.suffix.lower()}, damaged or protected ({type(error).__name__})"
    return error if isinstance(error, Unreadable) else Unreadable(reason)


def _rows(path: Path, opened: ExitStack, tables: Sequence[_Table], notes: list[str]) -> Iterator[Row]:
    several = len(tables) > 1
    try:
        for table in tables:
            title = str(table.sheet.title)
            for row in _rows_of(table):
                if table.split and row.cells:
                    row.cells.setdefault("split", table.split)
                yield row._replace(table=title) if several else row
            found = table.headings.notes()
            if table.marks.formulas:
                found.append(f"formulas without a stored result in {len(table.marks.formulas):,} rows, read as empty")
            notes += [f"{title}: {note}" if several else note for note in found]
    except Exception as error:
        raise _damaged(path, error) from error
    finally:
        opened.close()


def _rows_of(table: _Table) -> Iterator[Row]:
    width, marks = len(table.headings.names), table.marks
    above = dict[int, str]()
    if width > MAX_COLUMNS:
        raise Unreadable(f"the headings reach to column {width:,} (at most {MAX_COLUMNS:,}); save the sheet as CSV")
    for number, cells in enumerate(table.sheet.iter_rows(min_row=table.top + 1), start=table.top + 1):
        if number > MAX_ROWS:
            raise Unreadable(f"a sheet with a row number above {MAX_ROWS:,}")
        stray = next((cell for cell in cells[width:] if cell.value not in (None, "")), None)
        cells = cells[:width]
        wrong = next((cell.value for cell in cells if cell.data_type == "e"), None)
        values = [shown(cell) for cell in cells]
        unresolved = [
            address
            for column, address in marks.formulas.get(number, {}).items()
            if column < width and table.headings.is_used(column)
        ]
        if unresolved:
            advice = "open the file in Excel or LibreOffice and save it"
            yield Row(number, {}, f"the formula in {unresolved[0]} has no stored result; {advice}")
        elif wrong is not None:
            yield Row(number, {}, f"a cell holds the error {wrong}")
        elif stray is not None:
            yield Row(number, {}, f"cell {stray.coordinate} holds a value, but its column has no heading")
        elif any(values):
            values += [""] * (width - len(values))
            for column, first in marks.merged.get(number, {}).items():
                if column < width:
                    if first == number:
                        above[column] = values[column]
                    else:
                        values[column] = values[column] or above.get(column, "")
            yield table.headings.row(number, values)
