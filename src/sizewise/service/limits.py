"""Checks before a request is parsed: API key, body size, receive timeout and JSON structure."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from contextlib import suppress
from typing import Any

from sizewise.service.api_keys import Key, Keys
from sizewise.service.request_log import path_of
from sizewise.service.schemas import APIError, error_body

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_TIMEOUT_S = 30.0
"""Maximum time from the headers of a request to the end of its body."""
SEND_TIMEOUT_S = 30.0
"""Maximum time for which a client may stop reading its response."""
MAX_BUFFERED_BYTES = 128_000_000
"""Maximum size of all bodies being received; requests beyond it get a 503."""
MAX_DEPTH, MAX_CONTAINERS, MAX_VALUES = 100, 20_000, 500_000
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]', re.DOTALL)  # linear time, even for unclosed strings
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class _ClientStalled(Exception):
    """The client stopped reading its response."""


class Gate:
    """Middleware that checks the API key before it reads the body, and limits the body before it is parsed.

    Args:
        app: the application.
        max_bytes: maximum body size.
        keys: API keys; None: all clients are accepted.
        open_paths: paths that need no key.
        raw_paths: paths whose bodies are not JSON.
        body_timeout_s: maximum time to receive a body.
        browser_login: let browsers prompt for the key.
        on_rejected: called with each request that has no valid key.
    """

    def __init__(
        self,
        app: Any,
        max_bytes: int,
        *,
        keys: Keys | None = None,
        open_paths: Collection[str] = (),
        raw_paths: Collection[str] = (),
        body_timeout_s: float = BODY_TIMEOUT_S,
        browser_login: bool = False,
        on_rejected: Callable[[Message], None] | None = None,
    ) -> None:
        self._on_rejected = on_rejected
        self._browser_login = browser_login
        self._app, self._keys = app, keys or Keys()
        self._max_bytes, self._body_timeout_s = max_bytes, body_timeout_s
        self._open, self._raw = frozenset(open_paths), frozenset(raw_paths)
        self._buffered = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # The connection closes when this returns; at shutdown, the task is cancelled once the drain time is over.
        with suppress(_ClientStalled, asyncio.CancelledError):
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        try:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            if scope["method"] not in ("GET", "HEAD", "OPTIONS") and _is_cross_origin(headers):
                raise APIError("Cross-origin requests are not allowed.", None, "cross_origin", 403)
            header = headers.get("authorization", "")
            if header or path_of(scope) not in self._open:
                scope.setdefault("state", {})["key"] = self._find_key(scope, header)
            if scope["method"] in ("GET", "HEAD", "OPTIONS"):
                await self._app(scope, receive, _with_timeout(send))
                return
            body = await self._body(scope, receive)
        except APIError as error:
            await _send_error(error, send)
            return
        delivered = False

        async def replay() -> Message:
            nonlocal delivered
            if not delivered:
                delivered = True
                return {"type": "http.request", "body": body, "more_body": False}
            return await receive()

        if body is not None:
            await self._app(scope, replay, _with_timeout(send))

    def _find_key(self, scope: Message, header: str) -> Key | None:
        """Find the key of a request; on open paths, a wrong key is as good as none.

        Raises:
            APIError: the key is missing or invalid.
        """
        try:
            return self._keys.find(header, self._browser_login)
        except APIError:
            if path_of(scope) in self._open:
                return None
            if self._on_rejected is not None:
                self._on_rejected(scope)
            raise

    async def _body(self, scope: Message, receive: Receive) -> bytes | None:
        """Read the body; None if the client disconnected.

        Raises:
            APIError: the body is too large, too slow, or its JSON structure is not acceptable.
        """
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > self._max_bytes:
            raise self._too_large()
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._body_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        return None
                    part = message.get("body", b"")
                    parts.append(part)
                    size += len(part)
                    self._buffered += len(part)
                    if size > self._max_bytes:
                        raise self._too_large()
                    if self._buffered > max(MAX_BUFFERED_BYTES, self._max_bytes):
                        raise APIError(
                            "The server is receiving too much data.", None, "busy", 503, {"Retry-After": "5"}
                        )
                    if not message.get("more_body"):
                        break
        except TimeoutError:
            raise APIError(
                f"The request body was not received within {self._body_timeout_s:g} s.", None, "body_timeout", 408
            ) from None
        finally:
            self._buffered -= size
        body = b"".join(parts)
        if path_of(scope) not in self._raw:
            await _check_structure(body)
        return body

    def _too_large(self) -> APIError:
        return APIError(f"The request body exceeds {self._max_bytes:,} bytes.", status=413)


def _is_cross_origin(headers: dict[str, str]) -> bool:
    """Check whether a page from another origin made a browser send this request (CSRF)."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site not in ("same-origin", "none")
    return origin is not None and origin.partition("://")[2] != headers.get("host")


async def _check_structure(body: bytes) -> None:
    """Reject JSON that would take too long to parse, without parsing it.

    The quick counts include punctuation inside strings. If they are high, a thread repeats the count without strings.

    Raises:
        APIError: the body is nested too deeply, has too many values, or is not UTF-8.
    """
    if body.startswith(_UTF16) or b"\0" in body:
        raise APIError("The request body is not JSON in UTF-8.", None, "invalid_json")
    containers = body.count(b"[") + body.count(b"{")
    if containers > MAX_DEPTH or body.count(b",") > MAX_VALUES:
        reason = await asyncio.to_thread(_structure_error, body)
        if reason:
            raise APIError(reason, None, "invalid_value")


def _structure_error(body: bytes) -> str:
    """Return why a JSON text must not be parsed; empty if it may be."""
    depth = containers = values = 0
    for found in _TOKENS.finditer(body):
        mark = body[found.start()]
        if mark in b"[{":
            depth += 1
            containers += 1
            if depth > MAX_DEPTH:
                return f"The request body is nested more than {MAX_DEPTH} levels deep."
            if containers > MAX_CONTAINERS:
                return f"The request body has more than {MAX_CONTAINERS:,} lists and objects."
        elif mark in b"]}":
            depth -= 1
        elif mark in b",":
            values += 1
            if values > MAX_VALUES:
                return f"The request body has more than {MAX_VALUES:,} values."
    return ""


def _with_timeout(send: Send) -> Send:
    """Wrap `send` so that it fails if the client stops reading."""

    async def send_with_timeout(message: Message) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await send(message)
        except TimeoutError:
            raise _ClientStalled from None

    return send_with_timeout


async def _send_error(error: APIError, send: Send) -> None:
    raw = json.dumps(error_body(error.message, error.status, error.param, error.code)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(raw)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    if error.status == 408:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": raw})
