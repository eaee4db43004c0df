"""Waiting for work while a client is connected and its time isn't up, and streams that end at a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import suppress
from time import monotonic
from typing import Any, TypeVar

from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT
from starlette.requests import Request as HttpRequest
from starlette.types import Message, Receive, Scope, Send

from sizewise.service import sse
from sizewise.service.schemas import APIError

CLIENT_CLOSED = 499
DISCONNECT_POLL_S = 0.25
STREAM_GRACE_S = 1.0
"""Seconds after the response timeout in which the text generated so far may still be sent."""
TIMED_OUT = "The response timed out."
T = TypeVar("T")


async def while_connected(http: HttpRequest, deadline: float, work: Coroutine[Any, Any, T]) -> T:
    """Await work, but cancel it when the client disconnects or the response times out.

    Args:
        http: the HTTP request.
        deadline: end, in seconds of the monotonic clock.
        work: the work.

    Raises:
        APIError: the client disconnected (499), or the response timed out (504).
    """
    task, disconnected = asyncio.create_task(work), asyncio.create_task(_disconnected(http))
    try:
        remaining = max(0.0, deadline - monotonic())
        await asyncio.wait({task, disconnected}, return_when=asyncio.FIRST_COMPLETED, timeout=remaining)
        if task.done():
            return await task
        if disconnected.done():
            raise APIError("The client disconnected.", status=CLIENT_CLOSED)
        raise APIError(TIMED_OUT, None, "timeout", 504)
    finally:
        task.cancel()
        disconnected.cancel()
        await asyncio.gather(task, disconnected, return_exceptions=True)


async def _disconnected(http: HttpRequest) -> None:
    while not await http.is_disconnected():
        await asyncio.sleep(DISCONNECT_POLL_S)


async def begun(first: asyncio.Task[T], seconds: float) -> None:
    """Wait until a task ends, for so many seconds at most.

    Raises:
        Exception: what the task raised in this time.
    """
    if (await asyncio.wait({first}, timeout=seconds))[0]:
        first.result()


class DeadlineStream(StreamingResponse):
    """A stream of events that frees its slot at the deadline, even if the client has stopped reading.

    Whenever nothing was sent for `sse.PING_S` seconds, it sends a comment, so that proxies keep the connection open.

    Args:
        events: server-sent events.
        deadline: end, in seconds of the monotonic clock.
        close: frees the slot.
    """

    def __init__(
        self, events: AsyncGenerator[bytes, None], deadline: float, close: Callable[[], Awaitable[None]]
    ) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._deadline, self._close = deadline + STREAM_GRACE_S, close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        last, ended = monotonic(), True  # nothing may be sent before the headers

        async def send_and_note(message: Message) -> None:
            nonlocal last, ended
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)
            last = monotonic()
            await send(message)

        async def ping() -> None:
            while True:
                wait_s = last + sse.PING_S - monotonic()
                if wait_s > 0 or ended:
                    await asyncio.sleep(max(wait_s, 0.01))
                else:
                    await send_and_note({"type": "http.response.body", "body": KEEPALIVE_COMMENT, "more_body": True})

        sending, pinging = asyncio.current_task(), asyncio.create_task(ping())
        assert sending is not None
        # A client that can't be pinged has left.
        pinging.add_done_callback(lambda pinged: None if pinged.cancelled() else sending.cancel())
        try:
            with suppress(TimeoutError):  # the connection is closed when this returns
                async with asyncio.timeout(max(0.0, self._deadline - monotonic())):
                    await super().__call__(scope, receive, send_and_note)
        finally:
            pinging.cancel()
            await asyncio.gather(pinging, return_exceptions=True)
            await self._close()
