"""Retries and concurrency for a remote service: which errors to retry, how long to wait, how many requests to run."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

FIRST_WAIT_S, MAX_WAIT_S = 0.5, 60.0
CONCURRENCY, MAX_CONCURRENCY = 8, 200
RETRYABLE_STATUSES = (408, 409, 423, 425, 429)


class Fault(NamedTuple):
    """An error that a service returned instead of an answer."""

    reason: str
    retryable: bool
    """Whether a retry of the same request may succeed."""
    too_many: bool = False
    """Whether lower concurrency would help."""
    wait_s: float | None = None
    """Wait requested by the provider (`Retry-After`)."""


def fault_of(error: Exception) -> Fault:
    """Classify an exception of an API client."""
    from pydantic_ai.exceptions import (
        ContentFilterError,
        ModelAPIError,
        ModelHTTPError,
        ModelRateLimitError,
        ModelRequestRejectedError,
        ModelUnavailableError,
    )

    if isinstance(error, ContentFilterError):
        return Fault(str(error), retryable=False)
    if not isinstance(error, ModelAPIError):
        # A truncated answer, or a proxy's error page instead of the model's answer.
        return Fault(f"the answer can't be read: {str(error) or type(error).__name__}", retryable=True)
    too_many = isinstance(error, ModelRateLimitError | ModelUnavailableError)
    if isinstance(error, ModelHTTPError):
        retryable = too_many or error.status_code in RETRYABLE_STATUSES or error.status_code >= 500
    else:  # connection errors, timeouts and answers that aren't JSON
        retryable = not isinstance(error, ModelRequestRejectedError)
    return Fault(str(error), retryable, too_many, getattr(error, "retry_after", None))


class Gate:
    """Adaptive concurrency limit: grows slowly with each success and halves when the provider reports overload."""

    def __init__(self) -> None:
        self.limit = float(CONCURRENCY)
        self._running = 0
        self._not_before = 0.0
        self._halved = 0.0
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._running < int(self.limit))
            self._running += 1
        wait = self._not_before - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)

    async def __aexit__(self, *_unused: object) -> None:
        async with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def record_success(self) -> None:
        """Raise the limit after a success."""
        self.limit = min(MAX_CONCURRENCY, self.limit + 1 / self.limit)

    def back_off(self, wait_s: float) -> None:
        """Halve the limit and hold new requests until `wait_s` has passed."""
        now = time.monotonic()
        if now - self._halved > 1.0:  # rejections within a second count once
            self.limit, self._halved = max(1.0, self.limit / 2), now
        self._not_before = max(self._not_before, now + wait_s)


def requested_wait_s(headers: Mapping[str, str]) -> float | None:
    """Read how long a service asks to wait (`Retry-After`), as seconds or a date; None if it doesn't say."""
    asked = headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(asked))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(asked)
    except ValueError:
        return None
    return max(0.0, ((until if until.tzinfo else until.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())


def wait_s(attempt: int, requested: float | None) -> float:
    """Compute the wait before a retry: the provider's request, else exponential backoff with jitter."""
    backoff = min(MAX_WAIT_S, FIRST_WAIT_S * 2**attempt)
    return min(MAX_WAIT_S, requested) if requested else backoff * random.uniform(0.5, 1.0)
