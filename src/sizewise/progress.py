"""How long jobs tell how far they are."""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """Told what is going on; the terminal draws bars, tests and scripts stay silent."""

    def say(self, line: str) -> None:
        """Tell one thing that is worth a line."""
        ...

    def advance(self, what: str, done: float, total: float, detail: str = "") -> None:
        """Tell how far a job is.

        Args:
            what: name of the job; the same name moves the same bar.
            done: work done.
            total: work in all, in the same unit.
            detail: speed, loss and the like.
        """
        ...


class Silent:
    """Tells nobody."""

    def say(self, line: str) -> None:
        """Do nothing."""

    def advance(self, what: str, done: float, total: float, detail: str = "") -> None:
        """Do nothing."""
