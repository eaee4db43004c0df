"""Votes and ratings from CSV files."""

from __future__ import annotations

import csv
import unicodedata
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizewise.errors import SizewiseError

IntArray = npt.NDArray[np.int64]
RATER_COLUMNS = ("rater", "worker", "annotator", "judge")
DOCUMENT_COLUMNS = ("document", "source", "item", "prompt", "question")


class Column(NamedTuple):
    """A column of a file: its different values, and the index of the value in each row."""

    values: list[str]
    codes: IntArray


def read_rows(path: Path, needed: Sequence[str | tuple[str, ...]]) -> Iterator[dict[str, str]]:
    """Read a CSV file row by row, and check that it has the required columns.

    White space around a value and the Unicode composition of its letters are normalized, so that they never create a
    second label or name.

    Args:
        path: the file.
        needed: columns that every row must fill in; of several in a tuple, one.

    Raises:
        SizewiseError: the file can't be read, lacks a column, or has no rows.
    """
    columns = [(name,) if isinstance(name, str) else name for name in needed]
    described = ", ".join(" or ".join(names) for names in columns)
    empty = True
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            given = reader.fieldnames or ()
            absent = [names for names in columns if not set(names) & set(given)]
            if absent:
                wanted = " or ".join(name for names in absent for name in names)
                raise ValueError(f"it has no column {wanted}, but {', '.join(given)}")
            for read in reader:
                row = {key: _normalized(value or "") for key, value in read.items() if key is not None}
                blank = next((names for names in columns if not any(row.get(name) for name in names)), None)
                if blank:
                    raise ValueError(f"line {reader.line_num} has no {' or '.join(blank)}")
                empty = False
                yield row
    except (OSError, ValueError, csv.Error) as error:
        raise SizewiseError(
            f"{path} cannot be read: {error}.", f"a CSV file with the columns {described}", ""
        ) from error
    if empty:
        raise SizewiseError(f"{path} has no rows.", "at least one vote or rating", "")


@lru_cache(maxsize=2**16)
def _normalized(value: str) -> str:
    return unicodedata.normalize("NFC", value.strip())


def columns_of(rows: Iterable[Mapping[str, str]]) -> tuple[dict[str, Column], int]:
    """Collect the columns of rows without keeping the rows: a file of a million votes takes a few megabytes.

    Returns:
        Column name -> column, and the number of rows. A row without a column has the value "" there.
    """
    values: dict[str, dict[str, int]] = {}
    codes: dict[str, array[int]] = {}
    count = 0
    for row in rows:
        for name, value in row.items():
            if name not in values:
                values[name] = {"": 0}
                codes[name] = array("q", bytes(8 * count))
            known = values[name]
            codes[name].append(known.setdefault(value, len(known)))
        count += 1
        if len(row) < len(codes):
            for name in codes.keys() - row.keys():
                codes[name].append(0)
    return {name: Column(list(values[name]), np.frombuffer(codes[name], dtype=np.int64)) for name in values}, count


def filled(columns: Mapping[str, Column], names: Sequence[str]) -> IntArray | None:
    """Return the codes of the first of these columns that every row fills in; None if there is none."""
    found = (columns[name].codes for name in names if name in columns)
    return next((codes for codes in found if codes.all()), None)
