"""Who may be served now: a place is taken before any work is done, and refused at once where none is left."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

RATE_MEMORY = 0.9
LONGEST_RETRY_S = 60


class Busy(Exception):
    """No place is left.

    Args:
        retry_s: seconds after which one may be.
    """

    def __init__(self, retry_s: int) -> None:
        super().__init__(f"busy; try again in {retry_s} s")
        self.retry_s = retry_s


class Admission:
    """Places at one model.

    Args:
        running: requests that are worked on at once.
        tokens: tokens (prompt and longest answer) of all that are worked on.
        waiting: tokens of all that wait.
        each: requests of one key that wait. It is few: whoever waits behind many had better be told to come back, and
            one key that asks too much does not fill the queue of the others.
    """

    def __init__(self, running: int, tokens: int, waiting: int, each: int) -> None:
        self._most_each = each
        self._most_running, self._most_tokens, self._most_waiting = running, tokens, waiting
        self.running = 0
        self.tokens = 0
        self.waiting_tokens = 0
        self._queues: OrderedDict[str, deque[tuple[int, asyncio.Future[None]]]] = OrderedDict()
        self._rate = 0.0  # tokens a second that become free
        self._last = time.monotonic()

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return sum(len(queue) for queue in self._queues.values())

    @property
    def most_tokens(self) -> int:
        """Largest request that can ever be served."""
        return self._most_tokens

    @asynccontextmanager
    async def place(self, who: str, tokens: int) -> AsyncIterator[None]:
        """Hold a place; whoever waits gets one in turns, key by key.

        Args:
            who: key of the client.
            tokens: prompt and longest answer.

        Raises:
            Busy: the queue is full.
        """
        await self._enter(who, tokens)
        begun = time.monotonic()
        try:
            yield
        finally:
            self.running -= 1
            self.tokens -= tokens
            self._learn(tokens, time.monotonic() - begun)
            self._admit()

    async def _enter(self, who: str, tokens: int) -> None:
        if not self._queues and self._fits(tokens):
            self.running += 1
            self.tokens += tokens
            return
        mine = len(self._queues.get(who, ()))
        if mine >= self._most_each or self.waiting_tokens + tokens > self._most_waiting:
            raise Busy(self.retry_after())
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(who, deque()).append((tokens, turn))
        self.waiting_tokens += tokens
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was just admitted
                self.running -= 1
                self.tokens -= tokens
            else:
                self._forget(who, tokens, turn)
            self._admit()
            raise

    def _fits(self, tokens: int) -> bool:
        return self.running < self._most_running and self.tokens + tokens <= self._most_tokens

    def _admit(self) -> None:
        while self._queues:
            who, queue = next(iter(self._queues.items()))
            tokens, turn = queue[0]
            if not self._fits(tokens):
                return
            queue.popleft()
            self.waiting_tokens -= tokens
            self._queues.move_to_end(who)
            if not queue:
                del self._queues[who]
            if not turn.done():
                self.running += 1
                self.tokens += tokens
                turn.set_result(None)

    def _forget(self, who: str, tokens: int, turn: asyncio.Future[None]) -> None:
        queue = self._queues.get(who)
        if queue is not None and (tokens, turn) in queue:
            queue.remove((tokens, turn))
            self.waiting_tokens -= tokens
            if not queue:
                del self._queues[who]

    def _learn(self, tokens: int, seconds: float) -> None:
        now = time.monotonic()
        rate = tokens / max(now - self._last, seconds / max(1, self.running + 1), 1e-3)
        self._last = now
        self._rate = rate if not self._rate else RATE_MEMORY * self._rate + (1 - RATE_MEMORY) * rate

    def retry_after(self) -> int:
        """Give whole seconds after which a place may be free."""
        if not self._rate:
            return 1
        return max(1, min(LONGEST_RETRY_S, math.ceil(self.waiting_tokens / self._rate)))
