"""Prometheus metrics of the service; they contain counts and durations only, never user text."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from sizewise.records import Completion
from sizewise.service.model_runner import ModelRunner

LATENCY_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counters, gauges and histograms since the start of the service."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=self._registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(name, text, ["model"], registry=self._registry)

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

    def render(self, runners: Sequence[ModelRunner], guard_counts: Mapping[str, int]) -> str:
        """Write all metrics in the Prometheus text format."""
        for event, count in list(guard_counts.items()):
            self._guard.labels(event).inc(count - self._guard_exported[event])
            self._guard_exported[event] = count
        for runner in runners:
            self._running.labels(runner.name).set(runner.admission.running)
            self._waiting.labels(runner.name).set(runner.admission.queued)
        return generate_latest(self._registry).decode("utf-8")
