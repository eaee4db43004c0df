"""A reporter for benchmarks."""

from __future__ import annotations

import sys


class Tell:
    """Says what is going on."""

    def say(self, line: str) -> None:
        """Print a line."""
        print(line, file=sys.stderr, flush=True)

    def advance(self, what: str, done: float, total: float, detail: str = "") -> None:
        """Stay silent."""
