"""Progress reporting for long jobs."""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """Receives progress events: the terminal draws bars, while tests and scripts stay silent."""

    def say(self, line: str) -> None:
        """Report an event as one line of text."""
        ...

    def advance(self, what: str, done: float, total: float, detail: str = "") -> None:
        """Update a job's progress bar.

        Args:
            what: Name of the job; each name has its own bar.
            done: Completed work.
            total: Total work, in the same unit as `done`.
            detail: Speed, loss or similar.
        """
        ...


class Silent:
    """Discards progress events."""

    def say(self, line: str) -> None:
        """Ignore the event."""

    def advance(self, what: str, done: float, total: float, detail: str = "") -> None:
        """Ignore the event."""
