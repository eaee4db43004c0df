"""Lay out tables for a terminal: cells wrap between words, and a table that is too wide becomes a list."""

from __future__ import annotations

import csv
import io
import re
import textwrap
import unicodedata
from collections.abc import Sequence

from sizewise.cli.controls import escape_controls
from sizewise.controls import spreadsheet_cell

GAP = "  "
SHORTEST = 16
"""Minimum length of a shortened name, in characters."""
_UNITS = re.compile(r"\[[^\[\]]{1,24}\]|\S+")
"""Text that is never split across lines: an interval, or a word."""
_LOCATION = re.compile(r"[A-Za-z]+:[^|]+$|[^|]*/[^|]*$")
"""A URI or a path, in contrast to a signature or a time."""
_NUMBER = re.compile(r"[-+<~]?[\d.,]+|-$|missing$|$")


def render(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Render a table as lines.

    Args:
        headings: column headings.
        rows: cells of each row.
        width: columns of the terminal; None lays out every row on one line.
    """
    cells = [[escape_controls(str(cell)) for cell in row] for row in (headings, *rows)]
    if width is None:
        return _lines(cells, [max(map(text_width, column)) for column in zip(*cells, strict=True)])
    for longest in (None, 32, 24, SHORTEST):
        shortened = cells if longest is None else [[_shorten_names(cell, longest) for cell in row] for row in cells]
        widths = _fit(shortened, width)
        if widths is not None:
            return _lines(shortened, widths)
    return _as_list(cells, width)


def render_side_by_side(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Render a table whose columns after the first are equally wide, for long texts that a reader compares.

    Args:
        headings: column headings.
        rows: cells of each row.
        width: columns of the terminal; None lays out every row on one line.
    """
    if width is None:
        return render(headings, rows, None)
    cells = [[escape_controls(str(cell)) for cell in row] for row in (headings, *rows)]
    first = min(22, width // 4)
    each = (width - first - len(GAP) * (len(headings) - 1)) // max(1, len(headings) - 1)
    if each < SHORTEST:
        return _as_list(cells, width)
    cells = [[_broken(row[0], first), *(_broken(cell, each) for cell in row[1:])] for row in cells]
    return _lines(cells, [first, *[each] * (len(headings) - 1)], numbers=False)


def _broken(cell: str, width: int) -> str:
    """Break words that are wider than a column, behind hyphens where there are some."""
    parts: list[str] = []
    for word in cell.split():
        line = ""
        for piece in re.findall(r"[^-]+-?|-", word) if len(word) > width else [word]:
            if line and len(line + piece) > width:
                parts.append(line)
                line = ""
            line += piece
        parts += [line[i : i + width] for i in range(0, len(line), width)]
    return " ".join(parts)


def as_csv(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table as CSV (RFC 4180, lines end in a line feed); what a spreadsheet would run gets an apostrophe."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(
        [[spreadsheet_cell(cell) for cell in row] for row in (headings, *rows)]
    )
    return escape_controls(text.getvalue(), "\n\t")


def shorten(name: str, longest: int) -> str:
    """Shorten a name in the middle: both the kind and the end of a URI stay readable."""
    if len(name) <= longest:
        return name
    head = (longest - 1) // 2
    return f"{name[:head]}…{name[len(name) - (longest - 1 - head) :]}"


def text_width(text: str) -> int:
    """Return the terminal columns that a text takes; wide East Asian characters take two."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def _shorten_names(cell: str, longest: int) -> str:
    """Shorten URIs and paths; ids, signatures and other words stay whole."""
    return " ".join(shorten(word, longest) if _LOCATION.match(word) else word for word in cell.split(" "))


def _fit(cells: list[list[str]], width: int) -> list[int] | None:
    """Choose column widths that keep words whole; None if there are none."""
    columns = list(zip(*cells, strict=True))
    widths = [
        max((text_width(unit) for cell in column for unit in _UNITS.findall(cell)), default=0) for column in columns
    ]
    slack = width - len(GAP) * (len(columns) - 1) - sum(widths)
    if slack < 0:
        return None
    for first in (1, 0):  # values on one line matter more than headings on one line
        goals = [max(map(text_width, column[first:]), default=0) for column in columns]
        for i in sorted(range(len(columns)), key=lambda i: goals[i] - widths[i]):
            more = min(max(goals[i] - widths[i], 0), slack)
            widths[i] += more
            slack -= more
    return [
        max((text_width(line) for cell in column for line in _wrap(cell, room)), default=0)
        for column, room in zip(columns, widths, strict=True)
    ]


def _lines(cells: list[list[str]], widths: list[int], numbers: bool = True) -> list[str]:
    """Lay out rows in columns, a rule under the headings; columns of numbers are aligned to the right."""
    columns = list(zip(*cells, strict=True))
    right = [numbers and i > 0 and all(_NUMBER.match(cell) for cell in column[1:]) for i, column in enumerate(columns)]
    lines = []
    for number, row in enumerate(cells):
        wrapped = [_wrap(cell, width) for cell, width in zip(row, widths, strict=True)]
        for i in range(max(map(len, wrapped))):
            parts = [cell[i] if i < len(cell) else "" for cell in wrapped]
            padded = [
                " " * (width - text_width(part)) + part if to_right else part + " " * (width - text_width(part))
                for part, width, to_right in zip(parts, widths, right, strict=True)
            ]
            lines.append(GAP.join(padded).rstrip())
        if number == 0:
            lines.append(GAP.join("-" * width for width in widths))
    return lines


def _wrap(cell: str, width: int) -> list[str]:
    """Wrap a cell between words, keeping intervals whole."""
    lines = [""]
    for unit in _UNITS.findall(cell):
        joined = f"{lines[-1]} {unit}" if lines[-1] else unit
        if text_width(joined) <= width or not lines[-1]:
            lines[-1] = joined
        else:
            lines.append(unit)
    return lines


def _as_list(cells: list[list[str]], width: int) -> list[str]:
    """List each row as `heading: value` lines under its first cell."""
    lines = []
    for row in cells[1:]:
        texts = [row[0], *(f"  {heading}: {cell}" for heading, cell in zip(cells[0][1:], row[1:], strict=True))]
        for text in texts:
            lines += textwrap.wrap(
                text, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
            )
    return lines
