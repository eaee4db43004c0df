"""Progress of long jobs on stderr: bars on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sizewise.cli.controls import escape_controls

EVERY_S = 10.0
"""Seconds between two progress lines of a job when stderr isn't a terminal."""


class TerminalReporter:
    """Draw progress bars on a terminal; write plain lines where there is none."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._live = self._console.is_terminal
        self._bars: dict[str, TaskID] = {}
        self._last_line: dict[str, float] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )

    def __enter__(self) -> TerminalReporter:
        if self._live:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._progress.stop()

    def say(self, line: str) -> None:
        """Write a line, wrapped between words on a terminal."""
        line = escape_controls(line, "\n\t")
        if self._live:
            self._console.print(line, markup=False, overflow="ignore", crop=False)
        else:
            self._console.print(line, markup=False, soft_wrap=True)

    def advance(self, what: str, done: float, total: float, detail: str = "") -> None:
        """Update the progress of a job.

        Args:
            what: name of the job; the same name moves the same bar.
            done: finished work.
            total: all work, in the same unit.
            detail: speed, loss and the like.
        """
        what, detail = escape_controls(what), escape_controls(detail)
        done = min(done, total)  # the last step of a training may go a little beyond its budget
        if not self._live:
            now = time.monotonic()
            if done >= total or now - self._last_line.get(what, 0.0) >= EVERY_S:
                self._last_line[what] = now
                self.say(f"{what}: {100 * done / max(total, 1e-9):.0f}% {detail}".rstrip())
            return
        if what not in self._bars:
            self._bars[what] = self._progress.add_task(what, total=total, detail=detail)
        self._progress.update(self._bars[what], completed=done, total=total, detail=detail)
        if done >= total:
            self._progress.remove_task(self._bars.pop(what))
