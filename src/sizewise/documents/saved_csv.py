"""CSV files as spreadsheets save them: commas, semicolons or tabs between cells, in UTF-8 or another encoding."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from sizewise.controls import csv_rows
from sizewise.documents.decoding import Unreadable, decode_file

_CHUNK = 1 << 20


@contextmanager
def open_csv(path: Path, *, strict: bool = True) -> Iterator[csv.DictReader[str]]:
    """Open a CSV file (see `csv_rows`), row by row if it is UTF-8.

    Args:
        path: the file.
        strict: whether invalid quotes are an error.

    Raises:
        OSError: the file can't be read.
        ValueError: its encoding is unclear.
    """
    with _open_text(path) as lines:
        yield csv_rows(lines, strict=strict)


def check_cells(reader: csv.DictReader[str], row: dict[Any, Any]) -> None:
    """Check that a row has no more cells than the header.

    A decimal comma without quotes makes two cells of 0,8, of which the first alone would be read as 0.

    Raises:
        ValueError: it has.
    """
    surplus = [cell for cell in row.get(None) or () if cell.strip()]
    if surplus:
        names = len(reader.fieldnames or ())
        raise ValueError(
            f"line {reader.line_num} has {names + len(row[None])} cells under {names} headings; write texts and "
            "numbers with a comma in quotes"
        )


def _open_text(path: Path) -> TextIO:
    if _is_utf8(path):
        return path.open(encoding="utf-8-sig", newline="")
    try:
        return io.StringIO(decode_file(path).text, newline="")
    except Unreadable as error:
        raise ValueError(f"{error}; save it as CSV in UTF-8") from error


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return False
        file.seek(0)
        try:
            while chunk := file.read(_CHUNK):
                if b"\0" in chunk:
                    return False
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True
