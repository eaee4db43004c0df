"""Middleware that passes requests for backends on before their bodies are read as requests of our own models.

A backend's API has more parameters than our engines, so its requests are checked by it, and by what guard, limits and
budgets need to know.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from types import SimpleNamespace
from typing import Any

from fastapi.responses import JSONResponse, Response
from starlette.requests import Request as HttpRequest

from sizewise.service.api_keys import CLIENT, key_of
from sizewise.service.backends import CHAT, EMBEDDINGS, RESPONSES, TEXT
from sizewise.service.forwarding import Forward
from sizewise.service.handovers import REQUESTED_BY
from sizewise.service.request_log import path_of
from sizewise.service.schemas import APIError, error_body
from sizewise.service.state import State

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
PREFIX = "/v1"
MAX_INLINE_BYTES = 100_000
"""Bodies up to this length are parsed on the event loop."""


class Passing:
    """Passes requests for backends on, and all others to the application.

    Args:
        app: the application.
        state: state of the service.
    """

    def __init__(self, app: Any, state: State) -> None:
        self._app, self._state = app, state
        self._paths = {PREFIX + path: path for path in (CHAT, TEXT, EMBEDDINGS, RESPONSES)}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle a request."""
        path = self._paths.get(path_of(scope)) if scope["type"] == "http" and scope["method"] == "POST" else None
        if path is None or not self._state.has_backends:
            await self._app(scope, receive, send)
            return
        message = await receive()  # `Gate` delivers the body at once
        raw = message.get("body", b"") if message["type"] == "http.request" else b""
        body = await _parse(raw)
        runner = self._state.by_name.get(body["model"]) if isinstance(body.get("model"), str) else None
        if runner is None or runner.backend is None:
            await self._app(scope, _replay(message, receive), send)
            return
        http = HttpRequest(scope, receive, send)
        scope["route"] = SimpleNamespace(path=PREFIX + path)
        response: Response
        try:
            key = key_of(http)
            await self._state.budgets.admit(key)
            REQUESTED_BY.set(key.name if key else "")
            CLIENT.set(key)
            self._state.find(runner.name, key)
            response = await Forward(self._state, runner, key, http, path).respond(body)
        except APIError as error:
            told = error_body(error.message, error.status, error.param, error.code)
            response = JSONResponse(told, error.status, error.headers)
        await response(scope, receive, send)


async def _parse(raw: bytes) -> dict[str, Any]:
    """Parse a body; empty if it is no JSON object, which the application will say."""
    try:
        found = json.loads(raw) if len(raw) <= MAX_INLINE_BYTES else await asyncio.to_thread(json.loads, raw)
        if b"\\u" in raw:  # perhaps a lone surrogate, which can't be encoded
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _replay(message: Message, receive: Receive) -> Receive:
    delivered = False

    async def replay() -> Message:
        nonlocal delivered
        if not delivered:
            delivered = True
            return message
        return await receive()

    return replay
