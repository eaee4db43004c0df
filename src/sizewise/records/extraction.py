"""Records of extraction: where the values of an answer occur in its source."""

from __future__ import annotations

from sizewise.records.base import Record


class TextSpan(Record):
    """A stretch of a message of the prompt."""

    message: int = 0
    """Index of the message, counted from 0."""
    start: int
    """Index of the first character in the message's text."""
    end: int
    """Index after the last character."""


class Evidence(Record):
    """A value of a JSON answer with its occurrences in the source."""

    path: str
    """Place of the value in the answer, for example `lines[0].amount`."""
    value: str
    """The value as text."""
    spans: tuple[TextSpan, ...] = ()
    """Occurrences in the source, the one closest to the answer's other values first."""
    missing_reason: str = ""
    """Why there is no occurrence; empty if there is one."""
