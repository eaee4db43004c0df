"""Connections with time limits, and a server that says that it stops before it does.

uvicorn waits for ever for a first request, for the end of a head, and for a client that takes nothing of its answer.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 10.0
"""Longest time that a connection may have no request: before the first, and until the head of one is whole."""
KEEP_ALIVE_S = 30
"""Longest time between two requests of a connection, and without anything taken of an answer that has ended."""
LOOKS_EVERY_S = 1.0
MOST_HEAD_BYTES = 64 * 1024
SPARE_FILES = 64
"""Open files that are not connections."""
LEAST_CONNECTIONS = 32


class TimedProtocol(HttpToolsProtocol):
    """A connection that is closed when nothing comes of it."""

    head_s = HEAD_S
    most_connections = 0
    """Connections at once; more close one that has no request. 0: as many as the system allows files."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look after a connection."""
        super().connection_made(transport)
        self._in_head, self._head_bytes = False, 0
        self._since, self._unsent = self.loop.time(), 0
        self._look: asyncio.TimerHandle | None = self.loop.call_later(self._every_s, self._look_after)
        most = self.most_connections or _most_connections()
        if len(self.connections) > most:
            idle = [one for one in self.connections if isinstance(one, TimedProtocol) and one is not self and one._idle]
            if idle:
                min(idle, key=lambda one: one._since).transport.abort()

    @property
    def _every_s(self) -> float:
        return min(LOOKS_EVERY_S, self.head_s / 2)

    @property
    def _idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _look_after(self) -> None:
        """Close what has had no request for too long; what is closing and takes nothing is cut."""
        now = self.loop.time()
        unsent = self.transport.get_write_buffer_size()
        if unsent < self._unsent or (not self._idle and not self.transport.is_closing()):
            self._since = now
        self._unsent = unsent
        served = self.cycle is not None and not self._in_head
        if now - self._since >= (max(self.head_s, KEEP_ALIVE_S) if served else self.head_s):
            self.transport.abort()
            return
        self._look = self.loop.call_later(self._every_s, self._look_after)

    def connection_lost(self, exc: Exception | None) -> None:
        """End looking after it."""
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; a head without end is cut."""
        super().data_received(data)
        self._head_bytes = self._head_bytes + len(data) if self._in_head else 0
        if self._head_bytes > MOST_HEAD_BYTES:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """Note that a head begins."""
        self._in_head, self._since = True, self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Note that a head is whole."""
        self._in_head = False
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Note that an answer is whole."""
        self._since = self.loop.time()
        super().on_response_complete()


def _most_connections() -> int:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return 1_000_000
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1_000_000 if files == resource.RLIM_INFINITY else max(LEAST_CONNECTIONS, files - SPARE_FILES)


class Server(uvicorn.Server):
    """A server that is told to stop, says so, and only then closes its door.

    Args:
        config: uvicorn's.
        stopping: called at once when it is told to stop.
        grace_s: seconds from then on in which it still takes requests, so that whoever sends them can learn of it.
    """

    def __init__(self, config: uvicorn.Config, stopping: Callable[[], None], grace_s: float) -> None:
        super().__init__(config)
        self._stopping, self._grace_s = stopping, grace_s
        self._told = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop after the grace; at once where a person asks from the terminal, or asks again."""
        again, self._told = self._told, True
        self._stopping()
        if sig == signal.SIGTERM and not again and self._grace_s:
            self._captured_signals.append(sig)
            timer = threading.Timer(self._grace_s, self._close_door)
            timer.daemon = True
            timer.start()
            return
        super().handle_exit(sig, frame)

    def _close_door(self) -> None:
        self.should_exit = True


def server_of(
    app: Any, *, host: str, port: int, drain_s: float, stopping: Callable[[], None], grace_s: float, backlog: int
) -> Server:
    """Make the server of an application.

    Args:
        app: the application.
        host: address to listen at.
        port: port.
        drain_s: longest time that answers under way may take to end.
        stopping: called when it is told to stop.
        grace_s: seconds in which it then still takes requests.
        backlog: connections that may wait.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=TimedProtocol,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=int(drain_s),
        timeout_keep_alive=KEEP_ALIVE_S,
        server_header=False,
        backlog=backlog,
    )
    return Server(config, stopping, grace_s)
