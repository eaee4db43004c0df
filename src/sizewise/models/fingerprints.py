"""Reads what the client for OpenAI's format doesn't pass on: the backend's fingerprint and a body without an answer."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

_FINGERPRINT = re.compile(rb'"system_fingerprint"\s*:\s*"([^"\\]{1,200})"')
_READ_BYTES = 16_384  # the fingerprint is in the first piece of a stream


@dataclass
class Watched:
    """What was read of the response to a request."""

    fingerprint: str = ""
    head: bytes = b""
    """Beginning of the body."""


_watched: ContextVar[Watched | None] = ContextVar("_watched", default=None)


def expect_response() -> Watched:
    """Return a record of the response to the next request of this task, filled while the response is read."""
    seen = Watched()
    _watched.set(seen)
    return seen


def last_body() -> bytes:
    """Return the beginning of the body of this task's last response."""
    seen = _watched.get()
    return seen.head if seen else b""


async def read_response(response: Any) -> None:
    """Watch the body of a response, as an event hook of an HTTP client; what is read isn't changed.

    Args:
        response: the response, whose body hasn't been read.
    """
    seen = _watched.get()
    if seen is None:
        return
    whole = response.aiter_bytes

    async def watched(*sizes: int | None) -> AsyncIterator[bytes]:
        async for piece in whole(*sizes):
            if len(seen.head) < _READ_BYTES:
                seen.head += piece[:_READ_BYTES]
                if not seen.fingerprint and (match := _FINGERPRINT.search(seen.head)):
                    seen.fingerprint = match[1].decode(errors="replace")
            yield piece

    response.aiter_bytes = watched
