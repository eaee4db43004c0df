"""Look at the first rows of a file, without reading it to the end."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from sizewise.documents import row_files, spreadsheets
from sizewise.documents.cell_tables import CELL_KINDS, UnknownColumns
from sizewise.documents.cells import KNOWN_KEYS, known_columns
from sizewise.documents.decoding import Unreadable
from sizewise.documents.guessing import MAX_LABEL_WORDS, guess_columns
from sizewise.documents.reading import ReadOptions
from sizewise.documents.rows import DEFAULTS, RowSource, of_cells, read_rows
from sizewise.errors import SizewiseError
from sizewise.records import Example
from sizewise.text import count_words

PEEKED = 400
MIN_ANSWERS = 20
"""Examples from which repeated answers are told from chance."""


def first_examples(path: Path, options: ReadOptions = DEFAULTS, rows: int = PEEKED) -> list[Example]:
    """Read the examples in the first rows of a file; empty if it isn't a file of rows or can't be read.

    Args:
        path: the file.
        options: the columns that the user named.
        rows: how many rows are read.
    """
    kind = row_files.kind_of(path)
    if not path.is_file() or not kind.endswith((*row_files.KINDS, *spreadsheets.KINDS)):
        return []
    try:
        opened = _open(path, kind, options)
        first = islice(opened.rows, rows)
        cells = map(of_cells, first) if kind.startswith((*CELL_KINDS, *spreadsheets.KINDS)) else first
        source = RowSource(path, path.name, options, label_names=opened.label_names)
        return list(read_rows(cells, source).examples)
    except (Unreadable, SizewiseError, OSError, ValueError):
        return []


def _open(path: Path, kind: str, options: ReadOptions) -> row_files.OpenRows:
    """Open a file of rows or a spreadsheet; a spreadsheet without known headings has no rows."""
    if kind not in spreadsheets.KINDS:
        return row_files.open_rows(path, known_columns(options))
    found = spreadsheets.sheet_rows(path, known_columns(options))
    return row_files.OpenRows(found.rows if found is not None else iter(()))


class Columns(NamedTuple):
    """The columns of a table in which no example was recognized."""

    names: tuple[str, ...] = ()
    """Their headings; none if the file can't be read or holds no table."""
    options: str = ""
    """The options that name the columns of text and of label or answer; empty if none fits."""


def columns_of(path: Path) -> Columns:
    """Read the headings of a table, and guess by its first rows which columns hold texts, labels and answers.

    Raises:
        Unreadable: the table has no headings.
    """
    if not path.is_file():
        return Columns()
    kind = row_files.kind_of(path)
    try:
        if kind in spreadsheets.KINDS:
            names, cells = spreadsheets.first_rows(path, PEEKED)
            return Columns(names, guess_columns(names, cells))
        if not kind.endswith(row_files.KINDS):
            return Columns()
        found = [row.cells for row in islice(row_files.open_rows(path, KNOWN_KEYS).rows, PEEKED) if row.cells]
    except UnknownColumns as error:
        return Columns(error.headings, error.options)
    except Unreadable as error:
        if error.command:
            raise
        return Columns()
    except (SizewiseError, OSError, ValueError):
        return Columns()
    names = tuple(dict.fromkeys(name for row in found for name in row))
    cells = [[row.get(name) for name in names] for row in found]
    plain = [[None if isinstance(cell, dict | list) else cell for cell in row] for row in cells]
    return Columns(names, guess_columns(names, plain))


def answers_repeat(examples: Sequence[Example]) -> bool:
    """Check whether the answers of examples are labels: short, and each one used several times."""
    answers = [example.references[0] for example in examples if example.references]
    words = sorted(count_words(answer) for answer in answers)
    return len(answers) >= MIN_ANSWERS and 4 * len(set(answers)) <= len(answers) and words[-1] <= MAX_LABEL_WORDS
