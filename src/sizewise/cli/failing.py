"""Error messages of the command line; imported before any command, so that Ctrl-C is handled from the start."""

from __future__ import annotations

import shutil
import sys
import textwrap
import time

from sizewise.cli.controls import as_json_line, escape_controls

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
