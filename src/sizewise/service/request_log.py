"""A log line, an id and metrics for every HTTP request, also for those that are rejected before a handler sees them."""

from __future__ import annotations

import json
import logging
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Any

from sizewise.service.metrics import Metrics
from sizewise.service.tracing import trace_id

Message = MutableMapping[str, Any]
HEADER = b"x-request-id"
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""Id of the HTTP request that is being handled."""
MAX_ADDRESSES = 1_000
REPORT_INTERVAL_S = 10.0
_VALID_ID = re.compile(rb"[\w.:-]{1,80}", re.ASCII)
_FIELDS = ("method", "path", "status", "duration_ms", "client", "key", "model", "prompt_tokens", "completion_tokens")
_ACCESS = logging.getLogger("sizewise.access")
_LOG = logging.getLogger("sizewise.service")


class RequestLog:
    """Middleware that gives each request an id, counts it, and logs it on `sizewise.access`.

    Args:
        app: the application.
        metrics: counts requests by path, status and key.
    """

    def __init__(self, app: Any, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(HEADER, b"")
        number = given if _VALID_ID.fullmatch(given) else secrets.token_hex(8).encode()
        token = REQUEST_ID.set(number.decode())
        started, status = time.monotonic(), 499

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (HEADER, number)]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            status = 500
            raise
        finally:
            self._finish(scope, status, time.monotonic() - started)
            REQUEST_ID.reset(token)

    def _finish(self, scope: Message, status: int, seconds: float) -> None:
        state = scope.get("state") or {}
        key = state.get("key")
        name = key.name if key is not None else ""
        path = getattr(scope.get("route"), "path", "other")
        self._metrics.observe_http(path, status, name, seconds)
        if not _ACCESS.isEnabledFor(logging.INFO):
            return
        fields = {
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "duration_ms": round(1000 * seconds, 1),
            "client": address_of(scope),
            "key": name or None,
            **state.get("logged", {}),
        }
        trace = trace_id()
        if trace:
            fields["trace_id"] = trace
        _ACCESS.info("%s %s %d", scope["method"], scope["path"], status, extra=fields)


class JSONFormatter(logging.Formatter):
    """Formats log records as one JSON object a line; texts of prompts and answers are never logged."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if REQUEST_ID.get():
            line["request_id"] = REQUEST_ID.get()
        trace = record.__dict__.get("trace_id") or trace_id()
        if trace:
            line["trace_id"] = trace
        line |= {name: record.__dict__[name] for name in _FIELDS if name in record.__dict__}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class RejectedKeys:
    """Logs the addresses that send missing or wrong API keys; a flood gives one line an address in ten seconds.

    Args:
        metrics: counts each of them.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._reported: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def add(self, scope: Message) -> None:
        """Count a request, and log its address."""
        self._metrics.count_rejected_key()
        address, now = address_of(scope), time.monotonic()
        last, unreported = self._reported.get(address, (-REPORT_INTERVAL_S, 0))
        unreported += 1
        if now - last >= REPORT_INTERVAL_S:
            _LOG.warning(
                "%d request(s) from %s had no valid API key, the last to %s", unreported, address, scope["path"]
            )
            last, unreported = now, 0
        self._reported[address] = (last, unreported)
        self._reported.move_to_end(address)
        if len(self._reported) > MAX_ADDRESSES:
            self._reported.popitem(last=False)


def path_of(scope: Message) -> str:
    """Return the path of a request without the prefix that a proxy removed."""
    path: str = scope["path"]
    root: str = scope.get("root_path") or ""
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def address_of(scope: Message) -> str:
    """Return the address of the client; behind a trusted proxy, the one that the proxy forwards."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def log_as_json(access: bool = True) -> None:
    """Send all logs of the service and of uvicorn to stderr as JSON lines.

    Args:
        access: log every request too.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JSONFormatter())
    for name in ("sizewise", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO if name == "sizewise" else logging.WARNING)
    _ACCESS.setLevel(logging.INFO if access else logging.WARNING)
