"""Delay Ctrl-C while state is inconsistent, and measure the time of interrupted runs."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C until the block is done."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield  # signals only reach the main thread, and background jobs ignore them
        return
    received: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if received:
        before(signal.SIGINT, None)


class Clock:
    """Training time of this session plus all earlier ones.

    Args:
        before: seconds of the earlier sessions.
    """

    def __init__(self, before: float) -> None:
        self._before = before
        self._start = time.monotonic()

    def seconds(self) -> float:
        """Return the seconds of all sessions."""
        return self._before + time.monotonic() - self._start
