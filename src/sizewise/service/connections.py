"""Connections with timeouts, and a server that announces its shutdown before it stops listening.

uvicorn alone has no timeout for the first request, for incomplete headers, or for clients that stop reading.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

BACKLOG = 2_048
"""Maximum number of pending connections."""
HEADER_TIMEOUT_S = 10.0
"""Maximum time until the first request arrives, and until its headers are complete."""
KEEP_ALIVE_S = 30
"""Maximum idle time between two requests, and without progress in sending a finished response."""
POLL_INTERVAL_S = 1.0
MAX_HEADER_BYTES = 64 * 1024
RESERVED_FILES = 64
"""File descriptors reserved for files other than connections."""
MIN_CONNECTIONS = 32


class TimedProtocol(HttpToolsProtocol):
    """A connection that closes when it makes no progress."""

    header_timeout_s = HEADER_TIMEOUT_S
    max_connections = 0
    """Concurrent connections; beyond it, the longest-idle one is closed. 0: derived from the open-file limit."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer of a new connection."""
        super().connection_made(transport)
        self._in_headers, self._header_bytes = False, 0
        self._last_progress, self._unsent = self.loop.time(), 0
        self._timer: asyncio.TimerHandle | None = self.loop.call_later(self._interval_s, self._check_progress)
        if len(self.connections) > (self.max_connections or _max_connections()):
            others = [other for other in self.connections if isinstance(other, TimedProtocol) and other is not self]
            idle = [other for other in others if other._idle]
            if idle:
                min(idle, key=lambda other: other._last_progress).transport.abort()

    @property
    def _interval_s(self) -> float:
        return min(POLL_INTERVAL_S, self.header_timeout_s / 2)

    @property
    def _idle(self) -> bool:
        """Whether no request is in progress."""
        return self.cycle is None or self.cycle.response_complete

    def _check_progress(self) -> None:
        """Abort the connection if it was idle too long, or if the client stopped reading."""
        now = self.loop.time()
        unsent = self.transport.get_write_buffer_size()
        if unsent < self._unsent or (not self._idle and not self.transport.is_closing()):
            self._last_progress = now
        self._unsent = unsent
        had_request = self.cycle is not None and not self._in_headers
        timeout = max(self.header_timeout_s, KEEP_ALIVE_S) if had_request else self.header_timeout_s
        if now - self._last_progress >= timeout:
            self.transport.abort()
            return
        self._timer = self.loop.call_later(self._interval_s, self._check_progress)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Receive bytes, and abort if the headers are too long."""
        super().data_received(data)
        self._header_bytes = self._header_bytes + len(data) if self._in_headers else 0
        if self._header_bytes > MAX_HEADER_BYTES:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """Note the start of request headers."""
        self._in_headers, self._last_progress = True, self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Note the end of request headers."""
        self._in_headers = False
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Note the end of a response."""
        self._last_progress = self.loop.time()
        super().on_response_complete()


def _max_connections() -> int:
    try:
        import resource
    except ImportError:  # Windows has no open-file limit
        return 1_000_000
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1_000_000 if files == resource.RLIM_INFINITY else max(MIN_CONNECTIONS, files - RESERVED_FILES)


class Server(uvicorn.Server):
    """A server that still accepts requests for a grace period after SIGTERM, so that load balancers notice in time.

    Args:
        config: configuration of uvicorn.
        on_stop: called as soon as the server is asked to stop.
        grace_s: seconds after that in which it still accepts requests.
    """

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None], grace_s: float) -> None:
        super().__init__(config)
        self._on_stop, self._grace_s = on_stop, grace_s
        self._stop_requested = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop after the grace period, or immediately on Ctrl-C or a second signal."""
        repeated, self._stop_requested = self._stop_requested, True
        self._on_stop()
        if sig == signal.SIGTERM and not repeated and self._grace_s:
            self._captured_signals.append(sig)
            timer = threading.Timer(self._grace_s, self._stop_listening)
            timer.daemon = True
            timer.start()
            return
        super().handle_exit(sig, frame)

    def _stop_listening(self) -> None:
        self.should_exit = True


def make_server(
    app: Any,
    *,
    host: str,
    port: int,
    drain_s: float,
    on_stop: Callable[[], None],
    grace_s: float,
    options: Mapping[str, Any] | None = None,
) -> Server:
    """Create the server of an application.

    Args:
        app: the application.
        host: address to bind.
        port: port.
        drain_s: seconds that requests in progress may take to finish.
        on_stop: called as soon as the server is asked to stop.
        grace_s: seconds after that in which it still accepts requests.
        options: further options of uvicorn.
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
        backlog=BACKLOG,
        **(options or {}),
    )
    return Server(config, on_stop, grace_s)
