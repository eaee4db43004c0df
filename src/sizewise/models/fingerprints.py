"""Reads what the client for OpenAI's format doesn't pass on: the backend's fingerprint and a body without an answer.

A server that ignores `stream` sends the answer as one JSON object, which the client takes for an empty stream; here it
becomes a stream of one piece.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

_FINGERPRINT = re.compile(rb'"system_fingerprint"\s*:\s*"([^"\\]{1,200})"')
MAX_ANSWER_BYTES = 64 << 20
"""Longest answer in one piece that is read."""
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
    """Watch the body of a response, as an event hook of an HTTP client; an answer in one piece becomes a stream.

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

    async def converted(*sizes: int | None) -> AsyncIterator[bytes]:
        body = b""
        async for piece in watched(*sizes):
            body += piece
            if len(body) > MAX_ANSWER_BYTES:
                break
        yield as_stream(body)

    response.aiter_bytes = converted if _ignores_stream(response) else watched


def _ignores_stream(response: Any) -> bool:
    """Check whether a stream was asked for and a JSON object is sent."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if response.status_code != 200 or kind != "application/json":
        return False
    try:
        return bool(json.loads(response.request.content).get("stream"))
    except (ValueError, AttributeError, RuntimeError):
        return False


def as_stream(body: bytes) -> bytes:
    """Convert a `chat.completion` object to the events of a stream; any other body is returned unchanged."""
    try:
        told = json.loads(body)
        choices = [_piece_of(choice) for choice in told["choices"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        return body
    event = told | {"object": "chat.completion.chunk", "choices": choices}
    return b"data: " + json.dumps(event).encode() + b"\n\ndata: [DONE]\n\n"


def _piece_of(choice: dict[str, Any]) -> dict[str, Any]:
    """Convert a choice with a message to one with a delta, whose calls are numbered."""
    message = dict(choice["message"])
    if calls := message.get("tool_calls"):
        message["tool_calls"] = [{"index": number} | call for number, call in enumerate(calls)]
    return {key: value for key, value in choice.items() if key != "message"} | {"delta": message}
