"""Traces: none unless a collector is configured; one trace from the client through the service to the server behind."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("pydantic_ai")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sizewise.service import tracing
from sizewise.service.request_log import JSONFormatter
from sizewise.store import Store
from tests.service.backend_stand_in import StandIn, standing_in
from tests.service.test_replicas import ASKED, CHAT, asked_of, gateway

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ExportTraceServiceRequest]]:
    received: list[ExportTraceServiceRequest] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
        tracing._provider.cache_clear()
        yield received
        tracing._provider().shutdown()
        tracing._provider.cache_clear()
        server.shutdown()


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with standing_in() as found:
        yield found


@pytest.mark.parametrize("stream", [False, True])
def test_one_trace_goes_through_to_the_server_behind(
    collector: list[ExportTraceServiceRequest],
    stand_in: StandIn,
    store: Store,
    caplog: pytest.LogCaptureFixture,
    stream: bool,
) -> None:
    caplog.set_level(logging.INFO, "sizewise.access")
    with gateway(store, stand_in.address) as (address, _):
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        assert httpx.post(f"{address}{CHAT}", json=ASKED | {"stream": stream}, headers=headers).status_code == 200
    (sent,) = [heard for _, body, heard in stand_in.received if body.get("messages") == ASKED["messages"]]
    _, trace, parent, _ = sent["traceparent"].split("-")
    assert trace == TRACE
    tracing._provider().force_flush()
    spans = [
        span
        for batch in collector
        for one in batch.resource_spans
        for in_scope in one.scope_spans
        for span in in_scope.spans
    ]
    by_id = {span.span_id.hex(): span for span in spans}
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    upstream = by_id[parent]
    assert by_id[upstream.parent_span_id.hex()].parent_span_id.hex() == PARENT
    assert "hello there" not in str(collector)
    lines = [
        json.loads(JSONFormatter().format(record)) for record in caplog.records if record.name == "sizewise.access"
    ]
    assert [line["trace_id"] for line in lines if line["path"] == CHAT] == [TRACE]


def test_without_a_collector_nothing_is_traced(
    stand_in: StandIn, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    with gateway(store, stand_in.address) as (address, _):
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        assert httpx.post(f"{address}{CHAT}", json=ASKED, headers=headers).status_code == 200
    assert len(asked_of(stand_in)) == 1
    assert not any("traceparent" in heard for _, _, heard in stand_in.received)
    assert not tracing.is_on()
