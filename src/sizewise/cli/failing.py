"""Error messages of the command line; imported before any command, so that Ctrl-C is handled from the start."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import time
from typing import TYPE_CHECKING

from sizewise.cli.controls import as_json_line, escape_controls

if TYPE_CHECKING:
    from pathlib import Path

INTERRUPTED = 130
STARTED = time.monotonic()
"""When the command started: what loads after that counts as the user's time."""


def fail(what: str, expected: str, next_step: str, as_json: bool) -> None:
    """Print an error: one JSON object on stdout with --json, else lines on stderr."""
    if as_json:
        from sizewise.records.upgrades import SCHEMA

        error = {"what": what, "expected": expected, "next": next_step}
        sys.stdout.write(as_json_line({"schema": SCHEMA, "error": error}))
        return
    for name, text in (("error", what), ("expected", expected), ("next", next_step)):
        if text:
            sys.stderr.write(_fitted(escape_controls(f"{name}: {text}", "\n\t")) + "\n")


def _fitted(text: str) -> str:
    """Wrap a message between words on a terminal; leave it unwrapped elsewhere."""
    if not sys.stderr.isatty():
        return text
    width = shutil.get_terminal_size((80, 24)).columns
    lines = (
        textwrap.fill(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        for line in text.split("\n")
    )
    return "\n".join(lines)


def interrupted(as_json: bool) -> None:
    """Print that Ctrl-C stopped the command and how to continue."""
    fail("Interrupted. Finished work is kept.", "", "run the same command again to continue", as_json)


def system_failure(error: Exception, home: Path) -> tuple[str, str, str]:
    """Describe an error of the operating system or of a database: what happened, what was expected, what to do.

    Args:
        error: an OSError or an error of SQLite.
        home: the folder of the records.
    """
    import socket

    again = "then run the same command again"
    file = getattr(error, "filename", None)
    named = os.fsdecode(file) if isinstance(file, str | bytes | os.PathLike) else ""
    if isinstance(error, FileNotFoundError) and named:
        return (
            f"There is no file or program '{named}'.",
            "a path that exists, or an installed program",
            f"correct the path, or install it; {again}",
        )
    if isinstance(error, PermissionError):
        return (
            f"Access to {named or 'a file that this command needs'} was denied.",
            f"read and write access; records are stored in {home}",
            f"change the permissions, or export SIZEWISE_HOME=FOLDER; {again}",
        )
    if isinstance(error, ConnectionError | TimeoutError | socket.gaierror):
        return (
            f"A connection failed: {error.strerror or type(error).__name__}.",
            "a service that this machine can reach",
            f"check the address, and HTTPS_PROXY if your network needs it; {again}",
        )
    return (
        f"The operating system reported an error: {error}.",
        f"free disk space, and read and write access; records are stored in {home}",
        f"free some space, or export SIZEWISE_HOME=FOLDER; {again} to continue",
    )
