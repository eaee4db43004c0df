"""An application that is replaced while it runs: new requests reach the new one, old ones end in the old one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import FastAPI

Message = MutableMapping[str, Any]
_LOG = logging.getLogger("sizewise.service")


class _Running:
    """An application, its lifespan and its requests in progress."""

    def __init__(self, app: FastAPI) -> None:
        self.app, self.requests = app, 0
        self.idle = asyncio.Event()
        self.lifespan = app.router.lifespan_context(app)


class Reloading:
    """Serves an application until it is replaced.

    Args:
        app: the first application.
        warm_up_s: seconds to wait for the models before connections are accepted; others answer meanwhile.
    """

    def __init__(self, app: FastAPI, warm_up_s: float = 0.0) -> None:
        self._warm_up_s = warm_up_s
        self.app = app
        """The application that receives new requests."""
        self._running: _Running | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: set[asyncio.Task[None]] = set()

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """Handle a request, or the lifespan of the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        running = self._running
        assert running is not None
        running.requests += 1
        running.idle.clear()
        try:
            await running.app(scope, receive, send)
        finally:
            running.requests -= 1
            if not running.requests:
                running.idle.set()

    async def _live(
        self, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        await receive()
        self._loop = asyncio.get_running_loop()
        self._running = _Running(self.app)
        await self._running.lifespan.__aenter__()
        end = self._loop.time() + self._warm_up_s
        while self._loop.time() < end and self.app.state.sizewise.starting:
            await asyncio.sleep(0.05)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._running.lifespan.__aexit__(None, None, None)
        await send({"type": "lifespan.shutdown.complete"})

    def replace(self, app: FastAPI, on_end: Callable[[], None]) -> None:
        """Replace the application; may be called from any thread, and waits until new requests reach the new one.

        Args:
            app: the new application.
            on_end: called when the last request of the old one has ended.
        """
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self._replace(app, on_end), self._loop).result()

    async def _replace(self, app: FastAPI, on_end: Callable[[], None]) -> None:
        new, old = _Running(app), self._running
        await new.lifespan.__aenter__()
        self.app, self._running = app, new
        if old is not None:
            ending = asyncio.create_task(self._end(old, on_end))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    @staticmethod
    async def _end(old: _Running, on_end: Callable[[], None]) -> None:
        if old.requests:
            await old.idle.wait()
        try:
            await old.lifespan.__aexit__(None, None, None)
            await asyncio.to_thread(on_end)
        except Exception:
            _LOG.exception("Failed to close what a reload replaced")
