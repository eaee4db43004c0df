"""Print results to stdout; everything else goes to stderr."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sizewise.cli.controls import as_json_line, escape_controls
from sizewise.cli.table import as_csv, render, render_side_by_side

if TYPE_CHECKING:
    from sizewise.cli.terminal import TerminalReporter
    from sizewise.store import Saved


_UNIT = re.compile(r"(?<=\d) (?=(?:%|s|ms|min|GB|MB|kB|USD)(?!\w))")
"""The space between a number and its unit."""


def print_saved(saved: Saved[Any], as_json: bool) -> bool:
    """Print the JSON object of a saved record if requested.

    Returns:
        Whether it was printed; otherwise the command prints text.
    """
    return print_object(saved.kind, saved.id, str(saved.path), saved.record, as_json)


def print_object(kind: str, name: str | None, path: str | None, record: Any, as_json: bool) -> bool:
    """Print the JSON object of a result if requested.

    Args:
        kind: kind of the record.
        name: its id, or a name for an unsaved result.
        path: file or folder that was written, if any.
        record: a record, or a plain dictionary.
        as_json: whether to print.

    Returns:
        Whether it was printed.
    """
    if as_json:
        body = record if isinstance(record, dict) else record.model_dump(mode="json")
        from sizewise.records.upgrades import SCHEMA

        envelope = {"schema": SCHEMA, "kind": kind, "id": name, "path": path, "record": body}
        sys.stdout.write(as_json_line(envelope))
        sys.stdout.flush()
    return as_json


def print_csv(headings: Sequence[str], rows: Sequence[Sequence[str]], wanted: bool) -> bool:
    """Print a table as CSV if requested.

    Returns:
        Whether it was printed.
    """
    if wanted:
        sys.stdout.write(as_csv(headings, rows))
    return wanted


def print_line(line: str, indent: str = "") -> None:
    """Print a line of text, wrapped between words on a terminal and unwrapped through a pipe.

    Args:
        line: the text.
        indent: indent of its second and further lines.
    """
    line = escape_controls(line, "\n\t")
    width = terminal_width()
    lines = [line] if width is None or len(line) <= width else _wrapped(line, width, indent)
    sys.stdout.write("\n".join(lines) + "\n")


def print_path(line: str) -> None:
    """Print a line that holds a path or a command: never wrapped, so that it can be copied."""
    sys.stdout.write(escape_controls(line, "\n\t") + "\n")


def print_verdict(summary: str) -> None:
    """Print the headline result of a command: bold on a terminal, and followed by a blank line."""
    summary = escape_controls(summary, "\n\t")
    width = terminal_width()
    text = summary if width is None else "\n".join(_wrapped(summary, width, ""))
    sys.stdout.write(f"{bold(text)}\n\n")


def print_points(heading: str, points: Iterable[str]) -> None:
    """Print a heading with a list of points; nothing if there are none."""
    listed = list(points)
    if listed:
        print_line(f"\n{heading}:")
    for point in listed:
        print_line(f"  - {escape_controls(point)}", "    ")


def print_notes(notes: Iterable[str], kind: str = "note") -> None:
    """Print one line per note, prefixed with its kind."""
    for note in notes:
        print_line(f"{kind}: {escape_controls(note)}", "  ")


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Print a table: fitted to the terminal between words, one line per row through a pipe."""
    if not rows:
        return
    if title:
        print_line(title)
    lines = render(headings, rows, terminal_width())
    lines[0] = bold(lines[0])
    sys.stdout.write("\n".join(lines) + "\n")


def print_side_by_side(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of texts with equally wide columns; one line per row through a pipe."""
    lines = render_side_by_side(headings, rows, terminal_width())
    lines[0] = bold(lines[0])
    sys.stdout.write("\n".join(lines) + "\n")


def bold(text: str) -> str:
    """Make text bold on a terminal."""
    return f"\x1b[1m{text}\x1b[0m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else text


def terminal_width() -> int | None:
    """Return the columns of the terminal; None through a pipe."""
    return shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else None


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    """Wrap text between words; a number stays on one line with its unit."""
    lines = []
    for line in _UNIT.sub("\u00a0", text).split("\n"):
        lines += textwrap.wrap(
            line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        ) or [""]
    return [line.replace("\u00a0", " ") for line in lines]


@contextmanager
def reporting() -> Iterator[TerminalReporter]:
    """Report progress on stderr while a job runs."""
    from sizewise.cli.terminal import TerminalReporter

    with TerminalReporter() as reporter:
        yield reporter
