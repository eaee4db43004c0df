"""Counters of the service, in Prometheus' format; no text of anybody is in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from sizewise.records import Completion
from sizewise.service.model_runner import ModelRunner

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Counts:
    """What has been served since the start."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        kept = self._registry
        self._requests = Counter("sizewise_requests", "Answers by model and status", ["model", "status"], registry=kept)
        self._tokens = Counter("sizewise_tokens", "Tokens by model, read or written", ["model", "kind"], registry=kept)
        self._usd = Counter("sizewise_usd", "US dollars by list prices", ["model"], registry=kept)
        self._first = Histogram(
            "sizewise_first_token_seconds", "Time to the first token", ["model"], buckets=SECONDS, registry=kept
        )
        self._whole = Histogram(
            "sizewise_request_seconds", "Time of a request", ["model"], buckets=SECONDS, registry=kept
        )
        self._running = Gauge("sizewise_running", "Requests that are worked on", ["model"], registry=kept)
        self._guard = Gauge("sizewise_guard", "Places masked, restored, kept back, seen", ["what"], registry=kept)
        self._waiting = Gauge("sizewise_waiting", "Requests that wait", ["model"], registry=kept)

    def count(self, model: str, status: int, seconds: float, first: float | None, end: Completion | None) -> None:
        """Count an answer, or a request without one."""
        self._requests.labels(model, str(status)).inc()
        if end is None:
            return
        self._tokens.labels(model, "read").inc(end.prompt_tokens)
        self._tokens.labels(model, "written").inc(end.completion_tokens)
        if end.usd:
            self._usd.labels(model).inc(end.usd)
        if first is not None:
            self._first.labels(model).observe(first)
        self._whole.labels(model).observe(seconds)

    def written(self, served: Sequence[ModelRunner], guarded: Mapping[str, int]) -> str:
        """Write all of it."""
        for what, count in guarded.items():
            self._guard.labels(what).set(count)
        for one in served:
            self._running.labels(one.name).set(one.admission.running)
            self._waiting.labels(one.name).set(one.admission.waiting)
        return generate_latest(self._registry).decode("utf-8")
