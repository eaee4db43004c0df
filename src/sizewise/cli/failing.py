"""How the command line says that something went wrong; it loads at once, before the commands do."""

from __future__ import annotations

import json
import sys

INTERRUPTED = 130


def fail(what: str, expected: str, next_step: str, as_json: bool) -> None:
    """Say what went wrong: one JSON object on stdout with --json, else words on stderr."""
    if as_json:
        error = {"what": what, "expected": expected, "next": next_step}
        sys.stdout.write(json.dumps({"schema": 1, "error": error}, ensure_ascii=False) + "\n")
        return
    sys.stderr.write(f"error: {what}\n")
    if expected:
        sys.stderr.write(f"expected: {expected}\n")
    if next_step:
        sys.stderr.write(f"next: {next_step}\n")


def interrupted(as_json: bool) -> None:
    """Say that Ctrl-C was heard."""
    fail("Interrupted; what was done is kept.", "", "run the same command again: it goes on", as_json)
