"""Grades that people gave to answers, in a column of a file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sizewise.documents.values import BadRow

GRADE_KEYS = ("grade", "human_grade", "human_score", "human_rating")
"""Columns that hold people's grades."""
RIGHT_KEYS = ("correct", "is_correct")
"""Columns that may hold right or wrong; other values in them aren't grades."""
_RIGHT = frozenset(("true", "yes", "y", "right", "correct", "good", "pass", "passed"))
_WRONG = frozenset(
    ("false", "no", "n", "wrong", "incorrect", "bad", "fail", "failed", "refused", "refusal", "no answer", "unanswered")
)

_NO_GRADE = frozenset(("", "nan", "null", "none", "na", "n/a", "<na>", "-", "\u2013", "\u2014"))


def read_grade(row: Mapping[str, Any]) -> float | None:
    """Read the grade of an answer: a number, true or false, or a word for them; None if the row has none.

    NaN, null and similar words for an absent value are no grade.

    Raises:
        BadRow: the column holds something else.
    """
    for key in GRADE_KEYS:
        if not _absent(row.get(key)):
            grade = _grade_of(row[key])
            if grade is None:
                raise BadRow(f"'{key}' is {str(row[key])[:40]!r}, not a number, true or false, or right or wrong")
            return grade
    for key in RIGHT_KEYS:
        given = row.get(key)
        if isinstance(given, bool) or (isinstance(given, str) and given.strip().casefold() in _RIGHT | _WRONG):
            return _grade_of(given)
    return None


def _absent(value: Any) -> bool:
    """Check whether a value stands for no grade."""
    if isinstance(value, str):
        return value.strip().casefold() in _NO_GRADE
    return value is None or (isinstance(value, float) and math.isnan(value))


def _grade_of(value: Any) -> float | None:
    if isinstance(value, bool | int | float):
        return float(value) if math.isfinite(value) else None
    if not isinstance(value, str):
        return None
    word = " ".join(value.casefold().split())
    if word in _RIGHT or word in _WRONG:
        return float(word in _RIGHT)
    try:
        grade = float(word.replace(",", "."))
    except ValueError:
        return None
    return grade if math.isfinite(grade) else None
