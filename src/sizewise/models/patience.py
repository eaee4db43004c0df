"""Patience with a service: how many requests are under way, which faults pass, and how long to wait for that."""

from __future__ import annotations

import asyncio
import random
import time
from typing import NamedTuple

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 60.0
AT_ONCE, MOST_AT_ONCE = 8, 200
PASSING_STATUSES = (408, 409, 423, 425, 429)


class Fault(NamedTuple):
    """What came in place of an answer."""

    reason: str
    passing: bool
    """Whether the same request may be answered if it is sent again."""
    too_many: bool = False
    """Whether fewer requests at once would help."""
    wait_s: float | None = None
    """What the provider asks to wait."""


def fault_of(error: Exception) -> Fault:
    """Classify what a client raised in place of an answer."""
    from pydantic_ai.exceptions import (
        ContentFilterError,
        ModelAPIError,
        ModelHTTPError,
        ModelRateLimitError,
        ModelRequestRejectedError,
        ModelUnavailableError,
    )

    if isinstance(error, ContentFilterError):
        return Fault(str(error), passing=False)
    if not isinstance(error, ModelAPIError):
        # Half an answer, or that of something between: a proxy's page in place of the model's words.
        return Fault(f"the answer cannot be read: {str(error) or type(error).__name__}", passing=True)
    too_many = isinstance(error, ModelRateLimitError | ModelUnavailableError)
    if isinstance(error, ModelHTTPError):
        passing = too_many or error.status_code in PASSING_STATUSES or error.status_code >= 500
    else:  # connections, time, and answers that are no JSON
        passing = not isinstance(error, ModelRequestRejectedError)
    return Fault(str(error), passing, too_many, getattr(error, "retry_after", None))


class Gate:
    """How many requests are under way at once: more while all goes well, half when the provider says it is too many."""

    def __init__(self) -> None:
        self.limit = float(AT_ONCE)
        self._under_way = 0
        self._not_before = 0.0
        self._halved = 0.0
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._under_way < int(self.limit))
            self._under_way += 1
        wait = self._not_before - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)

    async def __aexit__(self, *_unused: object) -> None:
        async with self._changed:
            self._under_way -= 1
            self._changed.notify_all()

    def went_well(self) -> None:
        """Let more under way."""
        self.limit = min(MOST_AT_ONCE, self.limit + 1 / self.limit)

    def too_many(self, wait_s: float) -> None:
        """Let fewer under way, and none before so many seconds."""
        now = time.monotonic()
        if now - self._halved > 1.0:  # the refusals of one moment are one piece of news
            self.limit, self._halved = max(1.0, self.limit / 2), now
        self._not_before = max(self._not_before, now + wait_s)


def wait_s(attempt: int, asked: float | None) -> float:
    """Give the seconds to wait: what the provider asks for, else twice as long each time, with jitter."""
    usual = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**attempt)
    return min(LONGEST_WAIT_S, asked) if asked else usual * random.uniform(0.5, 1.0)
