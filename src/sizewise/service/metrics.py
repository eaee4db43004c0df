"""Prometheus metrics of the service; they contain counts and durations only, never user text."""

from __future__ import annotations

import os
from collections import Counter as Counts
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from sizewise.records import Completion
from sizewise.service.model_runner import ModelRunner

LATENCY_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counters, gauges and histograms since the start of the service."""

    def __init__(self) -> None:
        self._registry, self._by_key = CollectorRegistry(), CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=self._by_key if "key" in labels else self._registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(name, text, ["model"], registry=self._registry, multiprocess_mode="livesum")

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(name, text, ["model"], buckets=LATENCY_BUCKETS_S, registry=self._registry)

        self._requests = counter("sizewise_requests", "Number of requests by HTTP status.", "model", "status")
        self._prompt_tokens = counter("sizewise_prompt_tokens", "Number of prompt tokens processed.", "model")
        self._generation_tokens = counter("sizewise_generation_tokens", "Number of tokens generated.", "model")
        self._cost = counter("sizewise_cost_usd", "API cost in US dollars at list prices.", "model")
        self._ttft = histogram("sizewise_time_to_first_token_seconds", "Time to first token in seconds.")
        self._latency = histogram("sizewise_e2e_request_latency_seconds", "End-to-end request latency in seconds.")
        self._running = gauge("sizewise_requests_running", "Number of requests being processed.")
        self._waiting = gauge("sizewise_requests_waiting", "Number of requests waiting in the queue.")
        self._decisions = counter("sizewise_decisions", "Number of decisions by model and result.", "model", "result")
        self._guard = counter(
            "sizewise_guard_events", "Number of guard events: masked, restored, blocked, signs of injection.", "event"
        )
        self._guard_exported: Counts[str] = Counts()
        self._retries = counter(
            "sizewise_retries", "Number of requests sent to another server of the model, because one failed.", "model"
        )
        self._server_up = Gauge(
            "sizewise_server_up",
            "Whether a server of a model works.",
            ["model", "server"],
            registry=self._registry,
            multiprocess_mode="livemin",
        )
        self._server_running = Gauge(
            "sizewise_server_requests_running",
            "Number of requests that a server of a model is answering.",
            ["model", "server"],
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self._http = counter("sizewise_http_requests", "Number of HTTP requests by path and status.", "path", "status")
        self._http_by_key = counter(
            "sizewise_key_http_requests", "Number of HTTP requests by API key and status.", "key", "status"
        )
        self._rejected = counter("sizewise_rejected_keys", "Number of requests without a valid API key.")
        self._key_tokens = counter("sizewise_key_tokens", "Number of tokens charged to an API key.", "key", "model")
        self._key_cost = counter("sizewise_key_cost_usd", "US dollars charged to an API key.", "key", "model")
        self._http_duration = Histogram(
            "sizewise_http_request_duration_seconds",
            "Duration of HTTP requests in seconds.",
            ["path"],
            buckets=LATENCY_BUCKETS_S,
            registry=self._registry,
        )

    def observe_http(self, path: str, status: int, key: str, seconds: float) -> None:
        """Record an HTTP request.

        Args:
            path: path of the route; `other` for unknown paths.
            status: HTTP status; 499 if the client disconnected first.
            key: name of the API key; empty without one.
            seconds: duration.
        """
        self._http.labels(path, str(status)).inc()
        self._http_duration.labels(path).observe(seconds)
        if key:
            self._http_by_key.labels(key, str(status)).inc()

    def count_rejected_key(self) -> None:
        """Count a request without a valid API key."""
        self._rejected.inc()

    def count_retry(self, model: str) -> None:
        """Count a request that is sent to another server, because one failed."""
        self._retries.labels(model).inc()

    def count_use(self, key: str, model: str, tokens: int, usd: float) -> None:
        """Count what an API key is charged."""
        self._key_tokens.labels(key, model).inc(tokens)
        self._key_cost.labels(key, model).inc(max(0.0, usd))

    def observe(
        self, model: str, status: int, latency_s: float, ttft_s: float | None, completion: Completion | None
    ) -> None:
        """Record one request.

        Args:
            model: name of the model.
            status: HTTP status.
            latency_s: end-to-end latency.
            ttft_s: time to first token; None if no token was generated.
            completion: the completion; None for a request that failed.
        """
        self._requests.labels(model, str(status)).inc()
        if completion is None:
            return
        self._prompt_tokens.labels(model).inc(completion.prompt_tokens)
        self._generation_tokens.labels(model).inc(completion.completion_tokens)
        if completion.usd:
            self._cost.labels(model).inc(completion.usd)
        if ttft_s is not None:
            self._ttft.labels(model).observe(ttft_s)
        self._latency.labels(model).observe(latency_s)

    def count_decision(self, model: str, result: str) -> None:
        """Count a decision: decided, handed_over or refused."""
        self._decisions.labels(model, result).inc()

    def render(self, runners: Sequence[ModelRunner], guard_counts: Mapping[str, int], by_key: bool = True) -> str:
        """Write the metrics in the Prometheus text format, those of all workers together.

        Args:
            runners: the models.
            guard_counts: events of the guard.
            by_key: include the metrics of API keys.
        """
        for event, count in list(guard_counts.items()):
            self._guard.labels(event).inc(count - self._guard_exported[event])
            self._guard_exported[event] = count
        for runner in runners:
            self._running.labels(runner.name).set(runner.admission.running)
            self._waiting.labels(runner.name).set(runner.admission.queued)
            for server in runner.backend.replicas.servers if runner.backend else ():
                self._server_up.labels(runner.name, server.place).set(not server.failure)
                self._server_running.labels(runner.name, server.place).set(server.running)
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            merged = CollectorRegistry()
            MultiProcessCollector(merged)  # type: ignore[no-untyped-call]
            text = generate_latest(merged).decode("utf-8")
            return text if by_key else "".join(line for line in text.splitlines(True) if "sizewise_key_" not in line)
        text = generate_latest(self._registry).decode("utf-8")
        return text + generate_latest(self._by_key).decode("utf-8") if by_key else text
