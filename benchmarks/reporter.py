"""Progress reporter of the benchmarks."""

from __future__ import annotations

import sys


class StderrReporter:
    """Prints messages to stderr and ignores progress."""

    def say(self, line: str) -> None:
        """Print a message."""
        print(line, file=sys.stderr, flush=True)

    def advance(self, what: str, done: float, total: float, detail: str = "") -> None:
        """Ignore progress."""
