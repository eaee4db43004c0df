"""Escape characters that a terminal or a page obeys instead of showing them, and cells that a spreadsheet would run."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

CONTROLS = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff\\ufffe\\uffff]")
"""C0 and C1, line separators, what changes the direction of text, and what neither a file nor XML can hold."""
DELIMITERS = (",", ";", "\t")
MAX_CELL = 10_000_000
"""Most characters of a CSV cell."""
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")
_GROUPED = re.compile(r"[-+]?[1-9]\d{0,2}[.,]\d{3}")
_SEP_LINE = re.compile(r"\ufeff?sep=.\r?\n?", re.IGNORECASE)
_FORMULA = re.compile(r"[=@\t\r\uff1d\uff0b\uff0d\uff20]|[-+]")
_NUMBER = re.compile(r"[-+](?:(?:\d[\d.,]*|\.\d+)(?:[eE][-+]?\d+)?%?(?: \[[-+\d., a-z]*\])?(?: points)?)?")
"""A signed number as the tables write it, with its interval; a dash alone means that there is none."""


def escape_controls(text: str, keep: str = "") -> str:
    """Escape characters that a terminal obeys instead of showing them, such as ESC.

    Ids, columns, file names and messages come from data, which must not clear the screen, rewrite a line or change the
    direction of the text.

    Args:
        text: Text to show.
        keep: Control characters that are meant, such as line feeds.
    """
    return CONTROLS.sub(lambda match: match[0] if match[0] in keep else ascii(match[0])[1:-1], text)


def escape_all(value: Any) -> Any:
    """Escape the controls in every text of nested lists and dictionaries."""
    return replace_texts(value, lambda text: escape_controls(text, "\n\t"))


def replace_texts(value: Any, replace: Callable[[str], str]) -> Any:
    """Replace every text of nested lists and dictionaries."""
    if isinstance(value, str):
        return replace(value)
    if isinstance(value, dict):
        return {replace_texts(key, replace): replace_texts(one, replace) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [replace_texts(one, replace) for one in value]
    return value


def spreadsheet_cell(value: object) -> str:
    """Write a cell that no spreadsheet runs as a formula: text that looks like one gets an apostrophe."""
    text = "" if value is None else escape_controls(str(value), "\n\t\r")
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def csv_rows(lines: Iterable[str], *, strict: bool = True) -> csv.DictReader[str]:
    """Open a CSV file whose cells may be as long as a prompt; Python's own limit is 131,072 characters.

    Cells are separated by what the header has most of: commas, or the semicolons or tabs that spreadsheets write.
    """
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL))
    read = iter(lines)
    header = next(read, "")
    if _SEP_LINE.fullmatch(header):  # Excel writes and reads it before the header
        header = next(read, "")
    delimiter = max(DELIMITERS, key=header.count)
    return csv.DictReader(chain([header], read), delimiter=delimiter, strict=strict)


def cell_number(text: str, *, commas: bool = False) -> float:
    """Read a number from a cell, with a decimal point or with the decimal comma of many countries.

    Args:
        text: The cell.
        commas: Whether the file has decimal commas, as files with semicolons do.

    Raises:
        ValueError: It isn't a number, or may be two: `1,500`, and in a file with semicolons `1.500`.
    """
    cell = text.strip()
    if _GROUPED.fullmatch(cell) and (commas or "," in cell):
        point, bare = (cell.replace(",", "."), re.sub("[.,]", "", cell))
        raise ValueError(f"'{cell}' may mean {point} or {bare}")
    return float(cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell) else cell)
