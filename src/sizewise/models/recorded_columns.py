"""Columns of recorded answers: which ones are looked for, and which other columns a user names instead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sizewise.documents.cells import PROMPT_KEYS, TURN_KEYS
from sizewise.documents.tables import column_name
from sizewise.documents.values import ID_KEYS, BadRow
from sizewise.errors import SizewiseError
from sizewise.records import StatedFacts

ANSWER_KEYS = ("completion", "answer", "response", "output")
CALL_KEYS = ("choices", "candidates", "content", "outputs", "result")
"""Where logged calls have their answer."""
_LISTED = 12  # columns that an error names
_LIKELY = re.compile("answer|reply|response|output|completion|generat|predict|result")
_ROLES = {"answer": ANSWER_KEYS, "prompt": (*PROMPT_KEYS, *TURN_KEYS), "id": ID_KEYS}


def rename_columns(cells: Mapping[str, Any], facts: StatedFacts) -> Mapping[str, Any]:
    """Rename the columns that a user names to those that are looked for; other columns of these names don't count.

    Args:
        cells: row, by normalized column name.
        facts: what the user states.

    Raises:
        BadRow: the row lacks such a column.
    """
    named = {"answer": facts.answer_column, "prompt": facts.prompt_column, "id": facts.id_column}
    wanted = {role: column for role, column in named.items() if column}
    if not wanted:
        return cells
    absent = [column for column in wanted.values() if column_name(column) not in cells]
    if absent:
        raise BadRow(f"there is no column '{absent[0]}'; the columns are {_list(cells)}")
    replaced = {key for role in wanted for key in _ROLES[role]}
    renamed = {_ROLES[role][0]: cells[column_name(column)] for role, column in wanted.items()}
    taken = {column_name(column) for column in wanted.values()}
    return {key: value for key, value in cells.items() if key not in replaced | taken} | renamed


def known_columns(facts: StatedFacts | None) -> frozenset[str]:
    """List the columns of which a table needs at least one: those that are looked for, and those that a user names."""
    named = (facts.answer_column, facts.prompt_column, facts.id_column) if facts else ()
    return frozenset((*ID_KEYS, *ANSWER_KEYS, *PROMPT_KEYS, *(column_name(one) for one in named if one)))


def has_answers(columns: Iterable[str]) -> bool:
    """Check whether one of a file's columns, by normalized name, may hold answers; a file without columns passes."""
    columns = set(columns)
    return not columns or bool(columns & {*ANSWER_KEYS, *TURN_KEYS, *CALL_KEYS})


def unknown_columns(path: Path, columns: Sequence[str], facts: StatedFacts | None) -> SizewiseError:
    """Describe a file without a column of answers: its columns, those looked for, and how to name another.

    Args:
        path: the file.
        columns: its columns.
        facts: what the user states, in a URI or a study file; None where no columns can be named.
    """
    named = f"'{facts.answer_column}'" if facts and facts.answer_column else "with answers"
    example = next((one for one in columns if _LIKELY.search(one.lower())), columns[-1] if columns else "COLUMN")
    step = f"name its column: 'recorded:{path}#answer_column={example}'; prompt_column and id_column work alike"
    return SizewiseError(
        f"{path} has no column {named}; its columns are {_list(columns)}.",
        f"the answer in {_either(ANSWER_KEYS)}, or {_either(TURN_KEYS[:1])} that end with it; "
        f"and an id in {_either(ID_KEYS)}, or the question in {_either(PROMPT_KEYS)}",
        step if facts is not None else f"rename the column in {path}",
    )


def _list(columns: Iterable[str]) -> str:
    names = [f"'{name}'" for name in columns]
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def _either(names: Iterable[str]) -> str:
    *first, last = (f"'{name}'" for name in names)
    return f"{', '.join(first)} or {last}" if first else last
