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

from sizewise.documents.saved_csv import check_cells, open_csv
from sizewise.errors import SizewiseError

IntArray = npt.NDArray[np.int64]
RATER_COLUMNS = tuple(name + end for name in ("rater", "annotator", "worker", "judge") for end in ("", "_id"))
ITEM_COLUMNS = tuple(name + end for name in ("item", "prompt", "question", "task") for end in ("", "_id"))
DOCUMENT_COLUMNS = tuple(name + end for name in ("document", "doc", "source") for end in ("", "_id"))


_KNOWN = frozenset((*RATER_COLUMNS, *ITEM_COLUMNS, *DOCUMENT_COLUMNS))


class Column(NamedTuple):
    """A column of a file: its different values, and the index of the value in each row."""

    values: list[str]
    codes: IntArray


def read_rows(path: Path, needed: Sequence[str | tuple[str, ...]]) -> Iterator[dict[str, str]]:
    """Read a CSV file row by row, and check that it has the required columns.

    White space around a value and the Unicode composition of its letters are normalized, so that they never create a
    second label or name. Names of columns are matched in any case, with spaces or hyphens for underscores; rows have
    them in lower case with underscores. Cells may be separated by semicolons or tabs, as spreadsheets write them.

    Args:
        path: the file.
        needed: columns that every row must fill in; of several in a tuple, one.

    Raises:
        SizewiseError: the file can't be read, lacks a column, or has no rows.
    """
    columns = [(name,) if isinstance(name, str) else name for name in needed]
    described = ", ".join(_any_of(names) for names in columns)
    empty = True
    try:
        with open_csv(path) as reader:
            given = [column_name(name) for name in reader.fieldnames or ()]
            reader.fieldnames = given
            twice = {name for name in given if given.count(name) > 1} & _KNOWN.union(*columns)
            if twice:
                raise ValueError(f"it has two columns {', '.join(sorted(twice))}")
            absent = [names for names in columns if not set(names) & set(given)]
            if absent:
                named = ", ".join(given) or "no header"
                raise ValueError(f"it has no column {', '.join(map(_any_of, absent))}, but {named}")
            for read in reader:
                check_cells(reader, read)
                row = {key: _normalized(value or "") for key, value in read.items() if key is not None}
                blank = next((names for names in columns if not any(row.get(name) for name in names)), None)
                if blank:
                    raise ValueError(f"line {reader.line_num} has no {_any_of(blank)}")
                empty = False
                yield row
    except (OSError, ValueError, csv.Error) as error:
        raise SizewiseError(
            f"{path} cannot be read: {error}.", f"a CSV file with the columns {described}", f"correct {path.name}"
        ) from error
    if empty:
        raise SizewiseError(f"{path} has no rows.", "at least one vote or rating", f"add rows to {path.name}")


def _any_of(names: Sequence[str]) -> str:
    return names[0] if names[1:] == (f"{names[0]}_id", *names[2:]) else " or ".join(names)


def column_name(name: str) -> str:
    """Return the name of a column in lower case with underscores, such as `item_id` for `Item ID`."""
    return "_".join(_normalized(name).casefold().replace("_", " ").replace("-", " ").split())


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


class Clusters(NamedTuple):
    """What votes share: their raters and their source documents."""

    raters: IntArray | None
    """(votes,) rater of each vote; None if no column names them."""
    documents: IntArray | None
    """(votes,) source document of each vote; None if no column names them."""
    notes: tuple[str, ...]
    """Which columns name them, and how many votes name none."""
    rater_names: tuple[str, ...] = ()
    """Name of each rater, by number; a vote without a name has a higher number."""


def cluster_votes(columns: Mapping[str, Column]) -> Clusters:
    """Find the rater and the source document of each vote.

    A vote without a document belongs to that of its item, or else to its item. One that names neither is a document of
    its own, and one without a rater has a rater of its own: a blank cell never merges or splits the others.
    """
    raters, of_raters = _first(columns, RATER_COLUMNS)
    items, of_items = _first(columns, ITEM_COLUMNS)
    documents, of_documents = _first(columns, DOCUMENT_COLUMNS)
    if documents is not None and items is not None:
        documents = _completed(documents, items)
    named = documents if documents is not None else items
    words = [f"'{name}'" for name in (of_documents, of_items) if name]
    notes = []
    if named is not None:
        notes.append(f"votes with the same value in column {words[0]} are one document")
        notes += _blank_note(named, " or ".join(words), "document")
    if raters is not None:
        notes.append(f"votes with the same value in column '{of_raters}' are of one rater")
        notes += _blank_note(raters, f"'{of_raters}'", "rater")
    names = tuple(columns[of_raters].values) if of_raters else ()
    return Clusters(_own_if_blank(raters), _own_if_blank(named), tuple(notes), names)


def repeated_votes(columns: Mapping[str, Column], pairs: IntArray) -> int:
    """Count votes on a pair and item that the same rater had judged before; votes that name no rater or item aside.

    Args:
        columns: columns of the file.
        pairs: (votes,) pair of each vote, whichever side its candidates were on.
    """
    raters, items = _first(columns, RATER_COLUMNS)[0], _first(columns, ITEM_COLUMNS)[0]
    if raters is None or items is None:
        return 0
    named = (raters > 0) & (items > 0)
    cells = np.unique(raters[named] * (int(items.max()) + 1) + items[named], return_inverse=True)[1]
    return int(named.sum()) - len(np.unique(cells * (int(pairs.max()) + 1) + pairs[named]))


def _first(columns: Mapping[str, Column], names: Sequence[str]) -> tuple[IntArray | None, str]:
    """Return the codes of the first of these columns that isn't empty, and its name; 0 is a blank cell."""
    found = ((columns[name].codes, name) for name in names if name in columns and columns[name].codes.any())
    return next(found, (None, ""))


def _completed(documents: IntArray, items: IntArray) -> IntArray:
    """Fill blank documents with that of the same item in other votes, or else with the item."""
    known = np.zeros(int(items.max()) + 1, dtype=np.int64)
    filled = (documents > 0) & (items > 0)
    known[items[filled]] = documents[filled]
    of_item = np.where(known > 0, known, documents.max() + np.arange(len(known)))
    of_item[0] = 0
    completed: IntArray = np.where(documents > 0, documents, of_item[items])
    return completed


def _own_if_blank(codes: IntArray | None) -> IntArray | None:
    if codes is None:
        return None
    own: IntArray = np.where(codes > 0, codes, codes.max() + 1 + np.arange(len(codes)))
    return own


def _blank_note(codes: IntArray, columns: str, unit: str) -> list[str]:
    blank = int((codes == 0).sum())
    return [f"votes without {columns}: {blank}; each counts as another {unit}"] if blank else []
