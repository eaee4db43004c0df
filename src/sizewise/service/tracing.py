"""OpenTelemetry traces, off unless OTEL_EXPORTER_OTLP_ENDPOINT names a collector. They contain no text of users."""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from sizewise.errors import MissingExtraError

VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_UNTRACED = ("/health", "/health/live", "/metrics", "/documents/text", "/monitor/data")
"""Paths of probes and pages that are polled, and one whose query has the name of a document."""


def is_on() -> bool:
    """Whether a collector is configured."""
    return any(os.environ.get(name) for name in VARIABLES) and os.environ.get("OTEL_SDK_DISABLED", "") != "true"


@cache
def _provider() -> Any:
    """Create the provider of this process, which sends spans in the background.

    Raises:
        MissingExtraError: a part of OpenTelemetry isn't installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise MissingExtraError("opentelemetry-sdk", "otel") from error
    name = os.environ.get("OTEL_SERVICE_NAME") or "sizewise"
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def telemetry_of_fastapi() -> dict[str, Any]:
    """Return FastAPI's settings: spans of requests if a collector is configured, and nothing else.

    Its logs would contain messages of exceptions; its metrics are those of `/metrics`.

    Raises:
        MissingExtraError: a collector is configured, but OpenTelemetry isn't installed.
    """
    off = {"metrics": False, "logs": False, "operation_spans": False, "auto_configure": False}
    if not is_on():
        return off | {"tracing": False}
    return off | {"tracing": True, "tracer_provider": _provider(), "exclude": _is_untraced}


def _is_untraced(scope: MutableMapping[str, Any]) -> bool:
    path: str = scope.get("path", "")
    return path.endswith(_UNTRACED)


def trace_id() -> str:
    """Return the id of the current trace as 32 hexadecimal digits; empty without one."""
    if not is_on():
        return ""
    from opentelemetry.trace import format_trace_id, get_current_span

    context = get_current_span().get_span_context()
    return format_trace_id(context.trace_id) if context.is_valid else ""


@contextmanager
def upstream_span(model: str, server: str, path: str) -> Iterator[dict[str, str]]:
    """Trace a request to a server behind the service; yields the headers that continue the trace there.

    Args:
        model: our name of the model.
        server: host and port.
        path: path below the base URL.
    """
    if not is_on():
        yield {}
        return
    from opentelemetry.propagate import inject
    from opentelemetry.trace import SpanKind

    tracer = _provider().get_tracer("sizewise")
    fields = {"gen_ai.request.model": model, "server.address": server, "url.path": path}
    with tracer.start_as_current_span(f"POST {path}", kind=SpanKind.CLIENT, attributes=fields):
        headers: dict[str, str] = {}
        inject(headers)
        yield headers
