"""What stands before a request is read: its key, and bounds on the size, the time and the shape of its body."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from contextlib import suppress
from typing import Any

from sizewise.service.api_keys import Keys
from sizewise.service.schemas import Refused, error_body

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_S = 30.0
"""Longest time from the head of a request to the end of its body."""
SEND_S = 30.0
"""Longest time that a client may take nothing of its answer."""
MOST_HELD_BYTES = 128_000_000
"""Bytes of all bodies that are on their way; whoever sends more is told to come back."""
MOST_LEVELS, MOST_STRUCTURES, MOST_VALUES = 100, 20_000, 500_000
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]', re.DOTALL)  # linear, also where a string has no end
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class _TakesNothing(Exception):
    """A client that takes nothing of its answer."""


class Gate:
    """Checks the key of a request before its body is read, and bounds the body before it is parsed.

    Args:
        app: the application behind.
        most_bytes: longest body.
        keys: who may ask; None: everybody.
        open_paths: paths that need no key.
        raw_paths: paths whose bodies are no JSON.
        body_s: longest time that a body may take.
        by_browser: a browser asks a person for the key.
    """

    def __init__(
        self,
        app: Any,
        most_bytes: int,
        *,
        keys: Keys | None = None,
        open_paths: Collection[str] = (),
        raw_paths: Collection[str] = (),
        body_s: float = BODY_S,
        by_browser: bool = False,
    ) -> None:
        self._by_browser = by_browser
        self._app, self._most, self._keys, self._body_s = app, most_bytes, keys or Keys(), body_s
        self._open, self._raw = frozenset(open_paths), frozenset(raw_paths)
        self._held = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve a connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # The connection is cut when this returns; it is cancelled where the time to end answers is over.
        with suppress(_TakesNothing, asyncio.CancelledError):
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        try:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            if scope["method"] not in ("GET", "HEAD", "OPTIONS") and _is_of_another_page(headers):
                raise Refused("Pages of other addresses may not ask this service.", None, "cross_origin", 403)
            if scope["path"] not in self._open:
                header = headers.get("authorization", "")
                scope.setdefault("state", {})["key"] = self._keys.find(header, self._by_browser)
            if scope["method"] in ("GET", "HEAD", "OPTIONS"):
                await self._app(scope, receive, _in_time(send))
                return
            body = await self._body(scope, receive)
        except Refused as error:
            await _refuse(error, send)
            return
        given = False

        async def again() -> Message:
            nonlocal given
            if not given:
                given = True
                return {"type": "http.request", "body": body, "more_body": False}
            return await receive()

        if body is not None:
            await self._app(scope, again, _in_time(send))

    async def _body(self, scope: Message, receive: Receive) -> bytes | None:
        """Read a body; None where the client went away.

        Raises:
            Refused: it is too long, takes too long, or nothing that is read here has its shape.
        """
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > self._most:
            raise self._too_long()
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._body_s):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        return None
                    part = message.get("body", b"")
                    parts.append(part)
                    size += len(part)
                    self._held += len(part)
                    if size > self._most:
                        raise self._too_long()
                    if self._held > max(MOST_HELD_BYTES, self._most):
                        raise Refused("Too many bodies are on their way.", None, "busy", 503, {"Retry-After": "5"})
                    if not message.get("more_body"):
                        break
        except TimeoutError:
            raise Refused(f"The body did not end within {self._body_s:g} s.", None, "body_timeout", 408) from None
        finally:
            self._held -= size
        body = b"".join(parts)
        if scope["path"] not in self._raw:
            await _check_shape(body)
        return body

    def _too_long(self) -> Refused:
        return Refused(f"The body is longer than {self._most:,} bytes.", status=413)


def _is_of_another_page(headers: dict[str, str]) -> bool:
    """Tell whether a browser sends this for a page of another address, which may do so without being asked."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site not in ("same-origin", "none")
    return origin is not None and origin.partition("://")[2] != headers.get("host")


async def _check_shape(body: bytes) -> None:
    """Refuse JSON that would take long to parse, without parsing it.

    The counts are quick and see marks inside of texts, too; only where they are high the texts are left out, beside the
    event loop.

    Raises:
        Refused: it is nested too deeply, has too many values, or is no UTF-8.
    """
    if body.startswith(_UTF16) or b"\0" in body:
        raise Refused("The body is no JSON in UTF-8.", None, "invalid_json")
    structures = body.count(b"[") + body.count(b"{")
    if structures > MOST_LEVELS or body.count(b",") > MOST_VALUES:
        reason = await asyncio.to_thread(_shape, body)
        if reason:
            raise Refused(reason, None, "invalid_value")


def _shape(body: bytes) -> str:
    """Tell what is wrong with the shape of a JSON text; nothing where it may be parsed."""
    level = structures = values = 0
    for found in _TOKENS.finditer(body):
        mark = body[found.start()]
        if mark in b"[{":
            level += 1
            structures += 1
            if level > MOST_LEVELS:
                return f"The body is nested more than {MOST_LEVELS} levels deep."
            if structures > MOST_STRUCTURES:
                return f"The body has more than {MOST_STRUCTURES:,} lists and objects."
        elif mark in b"]}":
            level -= 1
        elif mark in b",":
            values += 1
            if values > MOST_VALUES:
                return f"The body has more than {MOST_VALUES:,} values."
    return ""


def _in_time(send: Send) -> Send:
    """Send, but not to a client that takes nothing."""

    async def sent(message: Message) -> None:
        try:
            async with asyncio.timeout(SEND_S):
                await send(message)
        except TimeoutError:
            raise _TakesNothing from None

    return sent


async def _refuse(error: Refused, send: Send) -> None:
    raw = json.dumps(error_body(error.message, error.status, error.param, error.code)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(raw)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    if error.status == 408:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": raw})
