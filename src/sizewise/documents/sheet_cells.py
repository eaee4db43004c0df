"""The cells of a sheet as it shows them, its merged cells, and its formulas without a stored result."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

MAX_MERGED_ROWS = 100_000
_CHUNK = 2**20
_MAX_ROW_BYTES = 32 * _CHUNK
_ROW_END = re.compile(rb"</(?:\w+:)?row\s*>")
_MERGED = re.compile(rb'<(?:\w+:)?mergeCell\s[^>]*?ref="([A-Z]{1,3})(\d{1,7}):([A-Z]{1,3})(\d{1,7})"')
_CELL = re.compile(rb"<(?:\w+:)?c(?:\s[^>]*)?(?<!/)>(.*?)</(?:\w+:)?c>", re.DOTALL)
_ADDRESS = re.compile(rb'\br="([A-Z]{1,3})(\d{1,7})"')
_FORMULA = re.compile(rb"<(?:\w+:)?f[\s>/]")
_RESULT = re.compile(rb"<(?:\w+:)?(?:v>[^<]|v\s[^>]*>[^<]|is>)")
_LITERALS = re.compile(r'"[^"]*"|\\.|_.|\*.|\[[^\]]*\]')
_NUMBER_FORMAT = re.compile(r"[^0#?%.,]*[#,]*(0*)(?:\.(0*)([#?]*))?(%?)[^0#?%]*")


class Marks(NamedTuple):
    """What a sheet states besides its cells."""

    merged: dict[int, dict[int, int]]
    """Row -> column, counted from 0 -> first row of the merged cell."""
    formulas: dict[int, dict[int, str]]
    """Row -> column -> address of a formula that has no stored result."""


def marks_of(sheet: Any) -> Marks:
    """Read the merged cells, and formulas without a stored result, of a sheet that openpyxl opened read-only."""
    merged: dict[int, dict[int, int]] = {}
    formulas: dict[int, dict[int, str]] = {}
    count = 0
    with sheet._get_source() as file:
        for part in _whole_rows(file):
            if b"mergeCell" in part:
                for left, top, _, bottom in _MERGED.findall(part):
                    for row in range(int(top), int(bottom) + 1 if bottom != top else 0):
                        count += 1
                        if count <= MAX_MERGED_ROWS:
                            merged.setdefault(row, {})[_column(left)] = int(top)
            if _FORMULA.search(part):
                for cell in _CELL.finditer(part):
                    if not _FORMULA.search(cell[1]) or _RESULT.search(cell[1]) or b't="str"' in cell[0]:
                        continue
                    address = _ADDRESS.search(cell[0])
                    if address:
                        unresolved = formulas.setdefault(int(address[2]), {})
                        unresolved[_column(address[1])] = (address[1] + address[2]).decode()
    return Marks(merged, formulas)


def _whole_rows(file: Any) -> Iterator[bytes]:
    """Yield the XML of a sheet in pieces that end with a row."""
    held = b""
    while chunk := file.read(_CHUNK):
        held += chunk
        end = max((found.end() for found in _ROW_END.finditer(held)), default=0)
        if end:
            yield held[:end]
            held = held[end:]
        elif len(held) > _MAX_ROW_BYTES:
            return
    yield held


def _column(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - ord("A") + 1
    return number - 1


def shown(cell: Any) -> str:
    """Return the text of a cell as the sheet shows it: decimals, leading zeros, percent, dates in ISO 8601."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime.timedelta):
        seconds = round(value.total_seconds())
        sign, seconds = "-" if seconds < 0 else "", abs(seconds)
        return f"{sign}{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    if isinstance(value, datetime.datetime) and value.time() == datetime.time.min:
        return value.isoformat() if "h" in _plain(cell.number_format) else value.date().isoformat()
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    return _number(value, str(cell.number_format)) if isinstance(value, int | float) else f"{value}"


def _plain(number_format: Any) -> str:
    return _LITERALS.sub("", str(number_format)).lower()


def _number(value: float, number_format: str) -> str:
    exact = float(value).is_integer() and abs(value) <= 2**53
    general = str(value) if isinstance(value, int) else f"{value:.0f}" if exact else f"{value:.15g}"
    found = _NUMBER_FORMAT.fullmatch(_LITERALS.sub("", number_format).split(";")[0])
    if number_format == "General" or found is None or not (found[1] or found[2] or found[4]):
        return general
    zeros, decimals, more, percent = found[1], found[2] or "", found[3] or "", found[4]
    number = value * 100 if percent else value
    text = f"{number:.{len(decimals) + len(more)}f}"
    for _ in more:
        text = text.removesuffix("0")
    whole, point, rest = text.partition(".")
    whole = whole if whole.startswith("-") else whole.zfill(len(zeros))
    return f"{whole}{point if rest else ''}{rest}{percent}"
