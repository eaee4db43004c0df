"""Latency means the same for an API and for a local model: the median, with its interval by order statistics."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from sizewise.evaluation.speed import LATENCY_REQUESTS, speed_scores
from sizewise.models.fake import FakeModel
from sizewise.models.machine import describe_machine
from sizewise.progress import Silent, pulsing
from sizewise.records import Completion, Message, ModelDescription, Request
from sizewise.stats.quantiles import quantile_interval
from sizewise.store import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        yield opened


class Described(FakeModel):
    """A model that claims another engine."""

    def __init__(self, **update: object) -> None:
        super().__init__("echo")
        self._update = update

    def describe(self) -> ModelDescription:
        return super().describe().model_copy(update=self._update)

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        return super().complete(requests)


def answer(number: int, seconds: float) -> Completion:
    return Completion(id=f"i{number}", text="yes", prompt_tokens=3, completion_tokens=1, seconds=seconds, finish="stop")


REQUESTS = [Request(id=f"i{i}", messages=(Message(role="user", content="go"),)) for i in range(40)]


def test_latency_of_an_api_has_the_interval_of_its_median(ledger: Ledger) -> None:
    seconds = np.random.default_rng(0).exponential(size=40)
    answers = [answer(i, s) for i, s in enumerate(seconds)]
    found = speed_scores(Described(engine="API of X", api=True), answers, REQUESTS, ledger, Silent())["latency_s"]
    expected = quantile_interval(seconds, 0.5)
    assert (found.value, found.ci_low, found.ci_high) == tuple(expected)
    assert found.n == 40
    assert found.signature.startswith("median|users:many")
    few = speed_scores(Described(engine="API of X", api=True), answers[:5], REQUESTS, ledger, Silent())["latency_s"]
    assert few.ci_low is None
    assert few.ci_missing_reason == "fewer than 6 requests"


@pytest.mark.parametrize(
    ("engine", "sampled", "batching"),
    [
        ("transformers", False, "batches of up to 64"),
        ("transformers", True, "batches of up to 16"),
        ("openvino-genai 2026", False, "continuous batching"),
        ("plug-in", False, "batching of the engine"),
    ],
)
def test_throughput_names_the_batching_and_has_an_interval_over_batches(
    engine: str, sampled: bool, batching: str, ledger: Ledger
) -> None:
    durations = np.random.default_rng(1).uniform(0.9, 1.1, 5)
    answers = [answer(i, durations[i // 8] / 8) for i in range(40)]
    found = speed_scores(Described(engine=engine), answers, REQUESTS, ledger, Silent(), sampled=sampled)
    throughput = found["requests_per_s"]
    assert throughput.signature.startswith(batching)
    assert throughput.value == pytest.approx(40 / durations.sum())
    assert throughput.ci_low is not None
    assert throughput.ci_high is not None
    assert throughput.ci_low < throughput.value < throughput.ci_high
    latency = found["latency_s"]
    assert latency.n == LATENCY_REQUESTS == 6
    assert latency.ci_low is not None
    one_batch = speed_scores(Described(engine=engine), answers[:8], REQUESTS, ledger, Silent())["requests_per_s"]
    assert one_batch.ci_low is None
    assert one_batch.ci_missing_reason == "fewer than 4 batches of requests"


def test_times_of_single_requests_are_measured_once(ledger: Ledger) -> None:
    answers = [answer(i, 0.1) for i in range(40)]
    first = speed_scores(Described(engine="transformers"), answers[:8], REQUESTS, ledger, Silent())
    again = speed_scores(Described(engine="transformers"), answers, REQUESTS, ledger, Silent())
    assert again["latency_s"] == first["latency_s"]
    assert len(ledger.entries("timing")) == LATENCY_REQUESTS


class Rambling(Described):
    """One of its first answers takes very long."""

    asked = 0

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        self.asked += 1
        time.sleep(0.5 if self.asked == 2 else 0.02)
        return super().complete(requests)


def test_one_slow_answer_is_not_the_bound_of_the_median(ledger: Ledger) -> None:
    model = Rambling(engine="transformers")
    found = speed_scores(model, [answer(i, 0.1) for i in range(40)], REQUESTS, ledger, Silent())["latency_s"]
    assert found.n == model.asked == 2 * LATENCY_REQUESTS
    assert found.ci_high is not None
    assert found.ci_high < 0.5


def test_the_machine_is_named() -> None:
    assert "core" in describe_machine()


def test_without_time_for_a_single_request_the_answers_still_count(ledger: Ledger) -> None:
    model, answers = Described(engine="transformers"), [answer(i, 20.0) for i in range(8)]
    with pulsing(lambda: None, lambda: 19.0):
        found = speed_scores(model, answers, REQUESTS, ledger, Silent())
    assert found["latency_s"].value is None
    assert "no time was left" in found["latency_s"].missing_reason
    assert found["requests_per_s"].value
    with pulsing(lambda: None, lambda: 21.0):
        assert speed_scores(model, answers, REQUESTS, ledger, Silent())["latency_s"].n == LATENCY_REQUESTS
