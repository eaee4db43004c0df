"""Parse the rows of tables of cells, such as CSV, with their line numbers; an invalid row doesn't stop the others."""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice, zip_longest
from typing import Any

from sizewise.documents.cells import CONTEXT_KEYS, DOCUMENT_KEYS, KNOWN_KEYS, PAIR_KEYS, REFERENCE_KEYS, TIME_KEYS
from sizewise.documents.decoding import Unreadable
from sizewise.documents.guessing import guess_columns
from sizewise.documents.tables import Row, all_lines, column_name
from sizewise.documents.text_lines import MAX_ROW_CHARACTERS, Line, TextLines

CELL_KINDS = (".csv", ".tsv")
DELIMITERS = ",;\t|"
SEARCHED_ROWS = 20
PEEKED_ROWS = 400
"""Rows by which the columns of a table without a known heading are guessed."""
LISTED = 8
"""Headings that an error lists."""
MAX_HEADING = 60  # characters; a longer one is a text
USED_KEYS = KNOWN_KEYS.union(
    REFERENCE_KEYS, CONTEXT_KEYS, PAIR_KEYS, TIME_KEYS, DOCUMENT_KEYS, ("id", "group", "split", "source")
)
LOGS = ({"request", "response"}, {"request_body", "response_body"}, {"inputs", "outputs"})
"""Columns of tables of logged calls."""
_MAX_UNCLOSED = 100
_MAX_CELL_LINES = 1_000
_SEP_LINE = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)


class Headings:
    """The headings of a table of cells.

    Args:
        cells: The row of headings.
        known: Column names of which the table needs at least one.
        delimiter: What separates the cells; empty in a spreadsheet.
        rows: The cells of the first rows, by which the columns are guessed if none is known.

    Raises:
        Unreadable: No column is known, or two columns that matter have the same name.
    """

    def __init__(
        self, cells: Sequence[Any], known: frozenset[str], delimiter: str = "", rows: Sequence[Sequence[Any]] = ()
    ) -> None:
        self._delimiter, self._used = delimiter, USED_KEYS.union(known, *LOGS)
        self.names = [column_name(cell.lstrip("\ufeff")) if isinstance(cell, str) else "" for cell in cells]
        while self.names and not self.names[-1]:
            self.names.pop()
        self._given = list(self.names)
        if not is_known(self.names, known):
            raise _unknown([str(cell or "").strip().lstrip("\ufeff") for cell in cells], rows, known)
        self.repeated = sorted({name for name in self.names if name and self.names.count(name) > 1})
        for name in self.repeated:
            if name in self._used:
                raise Unreadable(f"two columns are named {name!r}", "rename or remove one of the two columns in FILE")
            for number, place in enumerate([n for n, other in enumerate(self.names) if other == name][1:], start=2):
                self.names[place] = f"{name} ({number})"
        self._unnamed: set[int] = set()

    def is_used(self, column: int) -> bool:
        """Check whether the column at a place, counted from 0, has a meaning for examples."""
        return self.names[column] in self._used

    def row(self, line: int, cells: list[str]) -> Row:
        """Make a row of cells."""
        if any("\0" in cell for cell in cells):
            return Row(line, {}, "it has a NUL character")
        while len(cells) > len(self.names) and not cells[-1].strip():
            cells = cells[:-1]
        if [column_name(cell.lstrip("\ufeff")) for cell in cells] == self._given:
            return Row(line, {}, "the headings again, probably where files were joined")
        if len(cells) > len(self.names):
            quote = f" (quote texts that contain '{self._delimiter}')" if self._delimiter else ""
            return Row(line, {}, f"{len(cells)} cells under {len(self.names)} headings{quote}")
        self._unnamed |= {n for n, (name, cell) in enumerate(zip(self.names, cells, strict=False)) if not name and cell}
        return Row(line, {key: cell for key, cell in zip_longest(self.names, cells, fillvalue="") if key})

    def notes(self) -> list[str]:
        """Return remarks on columns, after the last row."""
        columns = ", ".join(str(number + 1) for number in sorted(self._unnamed)[:SEARCHED_ROWS])
        plural = "s" if len(self._unnamed) > 1 else ""
        unnamed = [f"column{plural} without a heading, not read: number {columns}"] if columns else []
        return unnamed + [f"several columns are named {name!r}" for name in self.repeated]


class UnknownColumns(Unreadable):
    """A table with headings, none of which is known.

    Args:
        headings: The headings.
        rows: The cells of its first rows, by which the columns are guessed.
        known: Column names of which the table needs at least one.
    """

    def __init__(self, headings: Sequence[str], rows: Sequence[Sequence[Any]], known: frozenset[str]) -> None:
        self.headings, self.options = tuple(headings), guess_columns(headings, rows)
        listed = ", ".join(map(repr, self.headings[:LISTED])) or "none"
        option = "--reference" if "--reference" in self.options else "--label"
        super().__init__(
            f"no column named {', '.join(sorted(known))}; the headings are {listed}; name the columns with --prompt "
            f"and {option if self.options else '--label or --reference'}",
            f"sizewise read FILE {self.options}" if self.options else "",
        )


def _unknown(seen: Sequence[str], rows: Sequence[Sequence[Any]], known: frozenset[str]) -> Unreadable:
    """Create the error of a table without a known heading, with the command that names its columns."""
    if any(len(name) > MAX_HEADING for name in seen if name):
        first = next(name for name in seen if name)
        return Unreadable(
            f"the first row has no headings but looks like data: {first[:40]!r}",
            "add a first row that names the columns, such as text and label, to FILE",
        )
    return UnknownColumns(seen, rows, known)


def cell_rows(file: TextLines, known: frozenset[str], notes: list[str] | None = None) -> Iterator[Row]:
    """Yield the rows of a table with headings; the delimiter is detected, and titles above the headings are skipped.

    Args:
        file: The file.
        known: Column names of which the table needs at least one.
        notes: Where to put remarks on the table, after the last row.

    Raises:
        Unreadable: No column is known, two columns have the same name, or many quotes are never closed.
    """
    lines = _Replayed(file.lines())
    first = lines.skip_blank()
    if first is None:
        return
    stated = _SEP_LINE.match(first.text)
    if stated:
        first = lines.next_line() or first
    lines.put_back([first])
    found, titles = _delimiter_and_titles(lines, known)
    delimiter = stated.group(1) if stated else found
    csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_CHARACTERS))
    headings: Headings | None = None
    records = _tab_records(lines) if delimiter == "\t" else _records(lines, delimiter)
    for number, cells, problem in records:
        if headings is None:
            if problem:
                raise Unreadable(f"the headings cannot be parsed ({problem})")
            below = [] if is_known(cells, known) else [row for _, row, _ in islice(records, PEEKED_ROWS)]
            headings = Headings(cells, known, delimiter, below)
        elif problem:
            yield Row(number, {}, problem)
        elif any(cell.strip() for cell in cells):
            yield headings.row(number, cells)
    if notes is not None and headings is not None:
        above = f"{titles} line{'s' if titles > 1 else ''} above the headings, not read"
        notes += [*([above] if titles else []), *headings.notes()]


def is_known(cells: Sequence[str], known: frozenset[str]) -> bool:
    """Check whether one of some cells is a known heading, or two of them are those of a log."""
    names = {column_name(cell.lstrip("\ufeff")) for cell in cells}
    return not known.isdisjoint(names) or any(pair <= names for pair in LOGS)


def is_below_titles(filled: int, titles: Sequence[int]) -> bool:
    """Check whether a row with known headings may stand below titles, which have fewer cells.

    Args:
        filled: Number of headings.
        titles: Number of filled cells of each row above.
    """
    return not titles or (filled > 1 and max(titles) < filled)


def _delimiter_and_titles(lines: _Replayed, known: frozenset[str]) -> tuple[str, int]:
    """Detect the delimiter, and skip titles above the headings; return the number of their lines too."""
    held: list[Line] = []
    titles: list[int] = []
    quotes = 0
    while len(held) < SEARCHED_ROWS and (line := lines.next_line()) is not None and not line.problem:
        held.append(line)
        delimiter = _delimiter(line.text, known)
        names = [column_name(cell) for cell in _split(line.text, delimiter)]
        filled = len([name for name in names if name])
        if is_known(names, known) and quotes % 2 == 0 and is_below_titles(filled, titles):
            lines.put_back([line])
            return delimiter, len(held) - 1
        titles.append(filled)
        quotes += line.text.count('"')
    else:
        if line is not None and line not in held:
            held.append(line)
    while len(held) > 1 and titles[0] < 2 < 1 + max(titles) and '"' not in held[0].text:
        held, titles = held[1:], titles[1:]  # a title above headings that aren't known
    lines.put_back(held)
    return _delimiter(held[0].text, known) if held else ",", 0


def _split(text: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:
        return []


class _Replayed:
    """Lines of which some may be read again."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = all_lines(lines)
        self._again: deque[Line] = deque()
        self.record: list[Line] = []
        """Lines of the record that is being parsed."""
        self.problem = ""
        """Problem of a line inside the record."""

    def next_line(self) -> Line | None:
        return self._again.popleft() if self._again else next(self._lines, None)

    def put_back(self, lines: Sequence[Line]) -> None:
        self._again.extendleft(reversed(lines))

    def skip_blank(self) -> Line | None:
        while (line := self.next_line()) is not None and not line.text.strip("\ufeff \r\n") and not line.problem:
            pass
        return line

    def feed(self) -> Iterator[str]:
        """Yield the lines of records; a line with a problem ends the feed."""
        while (line := self.next_line()) is not None:
            self.record.append(line)
            if line.problem:
                return
            yield line.text


def _records(lines: _Replayed, delimiter: str) -> Iterator[tuple[int, list[str], str]]:
    """Yield (first line, cells, problem) of each record; a quote that is never closed ends with its line."""
    unclosed = 0
    while True:
        reader = csv.reader(lines.feed(), delimiter=delimiter, strict=True, skipinitialspace=True)
        problem = ""
        while not problem:
            lines.record = []
            try:
                cells = next(reader, None)
            except csv.Error as error:
                problem = str(error)
                break
            if cells is None:
                break
            yield lines.record[0].number if lines.record else 0, cells, ""
        record = lines.record
        if not record:
            return
        first = record[0].number
        if not problem:  # a line that cannot be decoded
            yield first, [], record[-1].problem
        elif "unexpected end of data" in problem or "field larger" in problem or "field limit" in problem:
            unclosed += 1
            if unclosed > _MAX_UNCLOSED:
                raise Unreadable(
                    f"more than {_MAX_UNCLOSED} quotes are never closed, the last one opened in line {first}"
                )
            yield first, [], f"the quote opened in line {first} is never closed"
            lines.put_back(record[1:])
        else:
            for line in record:
                yield line.number, [], f"cannot be split into cells ({problem})"


def _delimiter(text: str, known: frozenset[str]) -> str:
    """Detect the delimiter: the one that yields the most known headings, then the most headings."""

    def fit(delimiter: str) -> tuple[int, int, int]:
        row = _split(text, delimiter)
        return len(known.intersection(map(column_name, row))), len(row), -DELIMITERS.index(delimiter)

    return max(DELIMITERS, key=fit)


def _tab_records(lines: _Replayed) -> Iterator[tuple[int, list[str], str]]:
    """Yield (first line, cells, problem) of each line of tab-separated values.

    A cell is quoted only if it begins and ends with a quote; quotes elsewhere, or never closed, are text. A quoted cell
    may have line breaks, if the lines in it are no rows themselves.
    """
    width = 0
    while (line := lines.next_line()) is not None:
        if line.problem:
            yield line.number, [], line.problem
            continue
        cells = [_unquoted(cell) for cell in _tabbed(line.text)]
        if width and len(cells) != width and len(whole := _strictly_split(line.text)) == width:
            cells = whole
        elif width and any(map(_is_open, _tabbed(line.text))):
            cells = _joined(line, lines, width) or cells
        width = width or len(cells)
        yield line.number, cells, ""


def _strictly_split(text: str) -> list[str]:
    """Return the cells of a record of which all quotes are closed, empty if they aren't."""
    try:
        (cells,) = csv.reader(io.StringIO(text, newline=""), delimiter="\t", strict=True, skipinitialspace=True)
    except (csv.Error, ValueError):
        return []
    return cells


def _tabbed(text: str) -> list[str]:
    return [cell.lstrip(" ") for cell in text.rstrip("\r\n").split("\t")]


def _is_open(cell: str) -> bool:
    return cell.startswith('"') and cell.count('"') % 2 == 1


def _unquoted(cell: str) -> str:
    inner = cell[1:-1].replace('""', "")
    return cell[1:-1].replace('""', '"') if len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner else cell


def _closes(text: str) -> bool:
    """Check whether the first cell of a line closes a quote of an earlier line."""
    first = _tabbed(text)[0].rstrip()
    return first.endswith('"') and first.count('"') % 2 == 1


def _joined(first: Line, lines: _Replayed, width: int) -> list[str] | None:
    """Return the cells of a record over several lines, None (and the lines unread) if the line is a record itself."""
    held, text = list[Line](), first.text
    like_row = first.text.count("\t") == width - 1
    while len(held) < _MAX_CELL_LINES and (line := lines.next_line()) is not None:
        held.append(line)
        text += line.text
        if line.problem or len(text) > MAX_ROW_CHARACTERS:
            break
        is_row = line.text.count("\t") == width - 1 and not _closes(line.text)
        like_row = like_row or is_row
        cells = _strictly_split(text) if '"' in line.text else []
        if len(cells) == width and not (like_row and any("\t" in cell for cell in cells)):
            return cells
        if is_row and width > 1:
            break
    lines.put_back(held)
    return None
