"""Progress reporting for long jobs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
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


_pulse: ContextVar[Callable[[], None] | None] = ContextVar("_pulse", default=None)
_left: ContextVar[Callable[[], float] | None] = ContextVar("_left", default=None)


@contextmanager
def pulsing(check: Callable[[], None], left: Callable[[], float] | None = None) -> Iterator[None]:
    """Call a function at each small step of the work inside the block, such as each generated token.

    Args:
        check: may raise an exception to end the work.
        left: returns the seconds that the work has left; None for as long as it takes.
    """
    tokens = _pulse.set(check), _left.set(left)
    try:
        yield
    finally:
        _pulse.reset(tokens[0])
        _left.reset(tokens[1])


def seconds_left() -> float:
    """Return the seconds that the work around this call has left; infinite without a limit."""
    left = _left.get()
    return math.inf if left is None else left()


def pulse() -> None:
    """Mark a small step of long work, at a point where it may end."""
    if (check := _pulse.get()) is not None:
        check()
