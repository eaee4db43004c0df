"""Server-sent events, read and written."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import NamedTuple

from fastapi.sse import format_sse_event

PING_S = 15.0
"""Seconds without an event after which a comment is sent, so that proxies don't close the connection."""
MAX_EVENT_BYTES = 8_000_000
DONE = "[DONE]"


class Event(NamedTuple):
    """A server-sent event."""

    data: str
    name: str | None = None


class EventTooLong(Exception):
    """A server sends an event that is longer than MAX_EVENT_BYTES."""


async def read_events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[Event, None]:
    """Parse events as in the HTML standard: any line ending, several data lines, a space after the colon or none.

    Raises:
        EventTooLong: an event is too long.
    """
    buffer, size = bytearray(), 0
    data: list[str] = []
    name: str | None = None
    async for chunk in chunks:
        buffer += chunk
        while True:
            end, skip = _line_end(buffer)
            if end < 0:
                break
            line, buffer = bytes(buffer[:end]), buffer[end + skip :]
            size += len(line)
            if size > MAX_EVENT_BYTES:
                raise EventTooLong
            if not line:
                if data:
                    yield Event("\n".join(data), name)
                data, name, size = [], None, 0
                continue
            field, _, value = line.decode("utf-8", errors="replace").partition(":")
            value = value.removeprefix(" ")
            if field == "data":
                data.append(value)
            elif field == "event":
                name = value
        if len(buffer) > MAX_EVENT_BYTES:
            raise EventTooLong
    if data:  # some servers leave out the empty line at the end
        yield Event("\n".join(data), name)


def _line_end(buffer: bytearray) -> tuple[int, int]:
    """Return where the first line ends, and the length of its ending; -1 if it isn't complete."""
    feed, carriage = buffer.find(b"\n"), buffer.find(b"\r")
    if carriage >= 0 and (feed < 0 or carriage < feed):
        if carriage + 1 == len(buffer):  # a line feed may follow
            return -1, 0
        return carriage, 2 if buffer[carriage + 1 : carriage + 2] == b"\n" else 1
    return feed, 1


def format_event(data: str, name: str | None = None) -> bytes:
    """Format an event."""
    return format_sse_event(data_str=data, event=name)
