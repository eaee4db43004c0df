"""Waits for a service that end from outside: a thread with an event loop sends, and the calling thread looks up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitedLongError
from typing import Any, TypeVar

from sizewise.models.base import PULSE_S
from sizewise.progress import pulse

CLOSING_S = 2.0
"""Longest wait for connections to close."""
T = TypeVar("T")


class BackgroundLoop:
    """An event loop on a thread of its own.

    Args:
        name: name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start work on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def wait(self, work: Coroutine[Any, Any, T], longest_s: float | None = None) -> T:
        """Do work on the loop and return its result; whoever watches the calling thread may end the wait.

        Args:
            work: the work; cancelled when the wait ends early.
            longest_s: time for the work; None for as long as it takes.

        Raises:
            TimeoutError: the time is up.
        """
        future = self.start(work if longest_s is None else asyncio.wait_for(work, longest_s))
        try:
            while True:
                pulse()
                try:
                    return future.result(timeout=PULSE_S)
                except WaitedLongError:
                    if future.done():
                        raise
        finally:
            future.cancel()

    def close(self, last: Coroutine[Any, Any, None] | None = None) -> None:
        """Cancel what still runs, do a last piece of work, and end the thread. No service can hold this up.

        Args:
            last: work that closes connections.
        """
        ending = self.start(_end(last))
        try:
            ending.result(timeout=2 * CLOSING_S + 1)
        except WaitedLongError:
            ending.cancel()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        if not self._thread.is_alive():
            self._loop.close()


async def _end(last: Coroutine[Any, Any, None] | None) -> None:
    running = asyncio.all_tasks() - {asyncio.current_task()}
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running, timeout=CLOSING_S)
    if last is not None:
        await asyncio.wait({asyncio.ensure_future(last)}, timeout=CLOSING_S)
    await asyncio.get_running_loop().shutdown_asyncgens()
    await asyncio.sleep(0.01)  # sockets close in the next iterations of the loop
