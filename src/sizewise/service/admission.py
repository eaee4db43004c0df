"""Admission control: a request takes a slot before any work starts, waits in a fair queue, or is rejected."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

RATE_SMOOTHING = 0.9
MAX_RETRY_S = 60


class Busy(Exception):
    """All slots are in use and the queue is full.

    Args:
        retry_s: estimated seconds until a slot is free.
    """

    def __init__(self, retry_s: int) -> None:
        super().__init__(f"busy; try again in {retry_s} s")
        self.retry_s = retry_s


class Admission:
    """Slots and queue of one model.

    The queue per key is short: a client behind many others is better off retrying later, and one key that sends too
    much does not fill the queue of the others.

    Args:
        max_running: maximum number of concurrent requests.
        max_tokens: maximum tokens (prompt and maximum answer) of all running requests.
        max_queued_tokens: maximum tokens of all queued requests.
        max_queued_per_key: maximum number of queued requests per key.
    """

    def __init__(self, max_running: int, max_tokens: int, max_queued_tokens: int, max_queued_per_key: int) -> None:
        self.max_tokens = max_tokens
        """Tokens that all running requests may hold; a larger request can never be served."""
        self._max_running, self._max_queued_tokens = max_running, max_queued_tokens
        self._max_queued_per_key = max_queued_per_key
        self.running = 0
        self.tokens = 0
        self.queued_tokens = 0
        self._queues: OrderedDict[str, deque[tuple[int, asyncio.Future[None]]]] = OrderedDict()
        self._tokens_per_s = 0.0  # rate at which reserved tokens are released
        self._last_release = time.monotonic()

    @property
    def queued(self) -> int:
        """Number of queued requests."""
        return sum(len(queue) for queue in self._queues.values())

    @asynccontextmanager
    async def slot(self, client: str, tokens: int) -> AsyncIterator[None]:
        """Hold a slot; queued requests are admitted round-robin across keys.

        Args:
            client: key of the client.
            tokens: prompt and maximum answer.

        Raises:
            Busy: the queue is full.
        """
        await self._enter(client, tokens)
        started = time.monotonic()
        try:
            yield
        finally:
            self.running -= 1
            self.tokens -= tokens
            self._update_rate(tokens, time.monotonic() - started)
            self._admit()

    async def _enter(self, client: str, tokens: int) -> None:
        if not self._queues and self._fits(tokens):
            self.running += 1
            self.tokens += tokens
            return
        queued = len(self._queues.get(client, ()))
        if queued >= self._max_queued_per_key or self.queued_tokens + tokens > self._max_queued_tokens:
            raise Busy(self.retry_after())
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(client, deque()).append((tokens, turn))
        self.queued_tokens += tokens
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # admitted just before the cancellation
                self.running -= 1
                self.tokens -= tokens
            else:
                self._remove(client, tokens, turn)
            self._admit()
            raise

    def _fits(self, tokens: int) -> bool:
        return self.running < self._max_running and self.tokens + tokens <= self.max_tokens

    def _admit(self) -> None:
        """Admit queued requests while they fit."""
        while self._queues:
            client, queue = next(iter(self._queues.items()))
            tokens, turn = queue[0]
            if not self._fits(tokens):
                return
            queue.popleft()
            self.queued_tokens -= tokens
            self._queues.move_to_end(client)
            if not queue:
                del self._queues[client]
            if not turn.done():
                self.running += 1
                self.tokens += tokens
                turn.set_result(None)

    def _remove(self, client: str, tokens: int, turn: asyncio.Future[None]) -> None:
        queue = self._queues.get(client)
        if queue is not None and (tokens, turn) in queue:
            queue.remove((tokens, turn))
            self.queued_tokens -= tokens
            if not queue:
                del self._queues[client]

    def _update_rate(self, tokens: int, seconds: float) -> None:
        now = time.monotonic()
        rate = tokens / max(now - self._last_release, seconds / max(1, self.running + 1), 1e-3)
        self._last_release = now
        previous = self._tokens_per_s
        self._tokens_per_s = RATE_SMOOTHING * previous + (1 - RATE_SMOOTHING) * rate if previous else rate

    def retry_after(self) -> int:
        """Estimate after how many whole seconds a slot will be free."""
        if not self._tokens_per_s:
            return 1
        return max(1, min(MAX_RETRY_S, math.ceil(self.queued_tokens / self._tokens_per_s)))
