"""Keep what libraries print out of a display: it goes to a log file while a long job runs."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

LOG = "study.log"
"""Name of the log in a study's folder."""
MAX_LOGS = 10
"""Logs of jobs without a folder that are kept."""
MAX_BYTES = 20_000_000
"""Size of an earlier log above which a new one replaces it."""


class NoiseLog:
    """The log file of a job, and the stream that still reaches the user.

    Args:
        path: the log; private, because libraries may print texts.
        stream: stream of the display.
    """

    def __init__(self, path: Path, stream: TextIO) -> None:
        self.path, self.stream = path, stream
        self._begun = time.monotonic()

    def note(self, line: str) -> None:
        """Add an event of the job to the log."""
        with suppress(OSError), self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"[{time.monotonic() - self._begun:.1f} s] {line}\n")

    def drop_if_empty(self) -> bool:
        """Remove the log if nothing was written to it.

        Returns:
            Whether it was removed.
        """
        with suppress(OSError):
            if self.path.is_file() and not self.path.stat().st_size:
                self.path.unlink()
                return True
        return False

    def move(self, folder: Path) -> None:
        """Move the log into a folder, after what is in an earlier log there; a failure leaves it where it is."""
        target = folder / LOG
        if target == self.path or not folder.is_dir():
            return
        with suppress(OSError):
            if target.is_file() and target.stat().st_size <= MAX_BYTES:
                descriptor = os.open(target, os.O_WRONLY | os.O_APPEND)
                with self.path.open("rb") as source, os.fdopen(descriptor, "ab") as file:
                    shutil.copyfileobj(source, file)
                self.path.unlink()
            else:
                shutil.move(self.path, target)
            self.path = target


@contextmanager
def hidden_output(folder: Path) -> Iterator[NoiseLog]:
    """Send stdout and stderr of this process, its libraries in C and its child processes to a log file.

    Args:
        folder: where the log begins; the temporary folder if it can't be written.

    Yields:
        The log with the stream of the display, which is stderr as it was.
    """
    path = _new_log(folder)
    if not _is_stderr():  # a test or a notebook has replaced the stream; libraries in C don't know it
        yield NoiseLog(path, sys.stderr)
        return
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {number: os.dup(number) for number in (1, 2) if _is_open(number)}
    stream = os.fdopen(os.dup(2), "w", encoding=sys.stderr.encoding, errors="backslashreplace")
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        for number in kept:
            os.dup2(descriptor, number)
        yield NoiseLog(path, stream)
    finally:
        for standard in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                standard.flush()
        for number, former in kept.items():
            os.dup2(former, number)
            os.close(former)
        os.close(descriptor)
        with suppress(OSError):
            stream.close()


def _is_stderr() -> bool:
    try:
        return sys.stderr.fileno() == 2
    except (OSError, ValueError, AttributeError):
        return False


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _new_log(folder: Path) -> Path:
    for place in (folder, None):
        with suppress(OSError):
            if place is not None:
                place.mkdir(parents=True, exist_ok=True)
                for old in sorted(place.glob("study-*.log"), key=lambda path: path.stat().st_mtime)[: 1 - MAX_LOGS]:
                    old.unlink()
            descriptor, name = tempfile.mkstemp(prefix="study-", suffix=".log", dir=place)
            os.close(descriptor)
            return Path(name)
    return Path(os.devnull)
