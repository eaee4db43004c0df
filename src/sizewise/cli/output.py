"""Results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from sizewise.store import Saved

EVERY_S = 10.0  # between lines where there is no terminal


def print_stored(stored: Saved[Any], as_json: bool) -> bool:
    """Print the one JSON object of the contract if asked for.

    Returns:
        Whether it was printed; otherwise the command prints words.
    """
    return print_object(stored.kind, stored.id, str(stored.path), stored.record, as_json)


def print_object(kind: str, name: str, path: str | None, record: Any, as_json: bool) -> bool:
    """Print the one JSON object of the contract if asked for; `print_stored` does it for what lies in the store."""
    if as_json:
        whole = {"schema": 1, "kind": kind, "id": name, "path": path, "record": record.model_dump(mode="json")}
        sys.stdout.write(json.dumps(whole, ensure_ascii=False) + "\n")
    return as_json


def print_line(line: str) -> None:
    """Print a line of results."""
    sys.stdout.write(line + "\n")


def print_table(headings: list[str], rows: list[list[str]], title: str = "") -> None:
    """Print a table of results, folded to the terminal's width, whole where there is no terminal."""
    table = Table(title=title or None, title_justify="left", header_style="bold")
    for i, heading in enumerate(headings):
        table.add_column(heading, overflow="fold", justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else 160
    Console(file=sys.stdout, width=width, highlight=False, markup=False).print(table)


class TerminalReporter:
    """Draws bars on a terminal; writes a line now and then where there is none."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._live = self._console.is_terminal
        self._bars: dict[str, TaskID] = {}
        self._told: dict[str, float] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
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
        """Write a line."""
        self._console.print(line, markup=False, soft_wrap=True)

    def advance(self, what: str, done: float, total: float, detail: str = "") -> None:
        """Move the bar of a job."""
        if not self._live:
            now = time.monotonic()
            if done >= total or now - self._told.get(what, 0.0) >= EVERY_S:
                self._told[what] = now
                self._console.print(
                    f"{what}: {100 * done / max(total, 1e-9):.0f}% {detail}".rstrip(),
                    markup=False,
                    soft_wrap=True,
                )
            return
        if what not in self._bars:
            self._bars[what] = self._progress.add_task(what, total=total, detail=detail)
        self._progress.update(self._bars[what], completed=done, total=total, detail=detail)
        if done >= total:
            self._progress.remove_task(self._bars.pop(what))


@contextmanager
def reporting() -> Iterator[TerminalReporter]:
    """Report progress on stderr while a job runs."""
    with TerminalReporter() as reporter:
        yield reporter
