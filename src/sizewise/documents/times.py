"""Times of rows in ISO 8601, from the notations of spreadsheets, logs and databases."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

EXPECTED = "ISO 8601, 31.12.2026, 2026/12/31, Unix seconds or milliseconds, 2026-12 or 2026"
_YEAR = re.compile(r"[12]\d{3}(?:-(?:0[1-9]|1[0-2]))?")
_DAY_FIRST = re.compile(r"(\d{1,2})\.\s?(\d{1,2})\.\s?(\d{4})(?:,?\s+(\d{1,2}:\d{2}(?::\d{2})?))?")
_YEAR_FIRST = re.compile(r"(\d{4})[/.年](\d{1,2})[/.月](\d{1,2})日?(?:[\sT]+(\d{1,2}:\d{2}(?::\d{2})?))?")
_YEAR_AND_MONTH = re.compile(r"(\d{4})[/.年](\d{1,2})月?|(\d{1,2})[./](\d{4})")
_NUMBER = re.compile(r"\d{9,19}(?:\.\d+)?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def iso_time(value: Any) -> str:
    """Return a time in ISO 8601, in UTC if its time zone is known; empty if the notation isn't known or is ambiguous.

    12/31/2026 and 31/12/2026 are ambiguous as notations, so both are unknown.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    try:
        text = value.strip() if isinstance(value, str) else f"{value:.6f}".rstrip("0").rstrip(".")
        return _iso_of_number(text) or _iso_of_date(text) or _iso_of_text(text)
    except (ValueError, OverflowError, TypeError):
        return ""


def _iso_of_number(text: str) -> str:
    """Read a year, a year with its month, or the seconds, milliseconds, micro- or nanoseconds since 1970."""
    if _YEAR.fullmatch(text):
        return text
    if not _NUMBER.fullmatch(text):
        return ""
    whole = len(text.partition(".")[0])
    power = 0 if whole <= 10 else 3 if whole <= 13 else 6 if whole <= 16 else 9
    microseconds = int(text.partition(".")[0]) * 10**6 // 10**power
    if not power and "." in text:
        microseconds = round(float(text) * 10**6)
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat()


def _iso_of_date(text: str) -> str:
    """Read a date of which the order of day and month is certain."""
    for notation, order in ((_DAY_FIRST, (3, 2, 1)), (_YEAR_FIRST, (1, 2, 3))):
        found = notation.fullmatch(text)
        if found:
            day = date(*(int(found[place]) for place in order)).isoformat()
            return f"{day}T{time.fromisoformat(found[4].zfill(5 if len(found[4]) < 6 else 8))}" if found[4] else day
    month = _YEAR_AND_MONTH.fullmatch(text)
    return date(int(month[1] or month[4]), int(month[2] or month[3]), 1).isoformat()[:7] if month else ""


def _iso_of_text(text: str) -> str:
    """Read ISO 8601, also with UTC at its end, and the dates of e-mails."""
    if len(text) <= len("2026-01-01"):
        return date.fromisoformat(text).isoformat()
    try:
        found = datetime.fromisoformat(text.removesuffix(" UTC") + ("+00:00" if text.endswith(" UTC") else ""))
    except ValueError:
        found = parsedate_to_datetime(text)
    return (found.astimezone(UTC) if found.tzinfo else found).isoformat()


def seconds_between(start: Any, end: Any) -> float:
    """Return the seconds between two times in nanoseconds or as ISO texts; 0 if one isn't known."""
    if str(start).isdigit() and str(end).isdigit():
        return max(0.0, (int(end) - int(start)) / 1e9)
    try:
        return max(0.0, (datetime.fromisoformat(str(end)) - datetime.fromisoformat(str(start))).total_seconds())
    except (ValueError, TypeError):
        return 0.0
