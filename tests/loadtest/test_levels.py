"""Scores of a load level carry an interval for every number, or the reason why one is missing."""

from __future__ import annotations

import numpy as np
import pytest

from sizewise.loadtest.levels import Limits, TimedAnswer, interval_notes, level_of
from sizewise.metrics.display import value_text


def answers(requests: int, users: int, seed: int = 0) -> list[TimedAnswer]:
    rng = np.random.default_rng(seed)
    found = []
    for number in range(requests):
        latency = 0.5 + rng.exponential(0.1)
        gaps = tuple(rng.exponential(0.01, size=9).tolist())
        found.append(TimedAnswer(None, 0.1 + 0.1 * rng.random(), latency, 10, gaps, 0.6 * (number // users + 1)))
    return found


@pytest.mark.parametrize(("requests", "bounded"), [(24, False), (72, True)])
def test_p95_has_an_upper_bound_from_72_requests_on(requests: int, bounded: bool) -> None:
    level = level_of(answers(requests, 4), 0.6 * requests / 4, Limits(), concurrent_users=4)
    for name in ("p95_latency_s", "p95_ttft_s", "p95_tpot_s"):
        assert (level.scores[name].ci_high is not None) == bounded
        assert level.scores[name].ci_low is not None
    for name in ("p50_latency_s", "p95_itl_s", "tokens_per_s", "requests_per_s", "goodput_per_s", "within_limits"):
        score = level.scores[name]
        assert score.ci_low is not None
        assert score.value is not None
        assert score.ci_high is not None
        assert score.ci_low <= score.value <= score.ci_high
    assert bool(interval_notes([level])) != bounded
    assert ("unbounded" in value_text(level.scores["p95_latency_s"])) != bounded


def test_notes_name_the_levels_and_how_many_requests_would_do() -> None:
    short = level_of(answers(24, 8), 2, Limits(), concurrent_users=8)
    single = level_of(answers(24, 1), 15, Limits(), concurrent_users=1)
    assert interval_notes([single, short]) == [
        "p95 has no upper bound at 1, 8 users: 72 successful requests per level are needed to verify a limit on p95, "
        "more if some fail, and 24, 24 succeeded.",
        "Throughput and goodput have no interval at 8 users: at least 4 requests per user are needed, 32 in all.",
    ]
    assert short.scores["goodput_per_s"].ci_missing_reason == "fewer than 4 requests per user"
    assert short.scores["p95_latency_s"].ci_missing_reason == "no upper end from 24 requests"


def test_failed_requests_lower_throughput_and_have_no_time_per_token() -> None:
    some = answers(24, 1)
    some[3] = TimedAnswer("timed out", 0.0, 9.0, 0, (), some[3].ended_s)
    level = level_of(some, 15, Limits(), concurrent_users=1)
    assert level.scores["p50_tpot_s"].n == level.scores["requests_per_s"].n == 23
    assert level.scores["p50_latency_s"].n == 24
    assert level.scores["requests_per_s"].value == pytest.approx(23 / 15)


@pytest.mark.parametrize("failures", [0, 4, 5, 6])
def test_failed_requests_are_slower_than_any_answer(failures: int) -> None:
    some = [TimedAnswer(None, 0.1, 1 + number / 1000, 10, (), number + 1.0) for number in range(100 - failures)]
    some += [TimedAnswer("timed out", 0.0, 0.2, 0, (), 100.0)] * failures
    scores = level_of(some, 100, Limits(), concurrent_users=1).scores
    p95 = scores["p95_latency_s"]
    if failures > 5:
        assert (p95.value, p95.ci_high) == (None, None)
        assert p95.missing_reason == "6 of 100 requests failed, more than 5 %"
        assert scores["p95_ttft_s"].value is None
        assert scores["p50_latency_s"].value == pytest.approx(1.0495)
    else:
        assert p95.value == pytest.approx(1.09405, abs=1e-3)
        assert (p95.ci_high is None) == (failures > 0)
        assert p95.ci_low is not None
        assert p95.ci_low <= p95.value


@pytest.mark.parametrize("seconds", [72.0, 73.0, 200.0])
def test_throughput_lies_in_its_interval_whenever_the_level_ended(seconds: float) -> None:
    some = [TimedAnswer(None, 0.1, 1.0, 10, (), number + 1.0) for number in range(72)]
    level = level_of(some, seconds, Limits(), concurrent_users=1)
    for name in ("tokens_per_s", "requests_per_s", "goodput_per_s"):
        score = level.scores[name]
        assert score.value is not None
        assert score.ci_low is not None
        assert score.ci_high is not None
        assert score.ci_low <= score.value + 1e-12
        assert score.value <= score.ci_high + 1e-12
    assert level.scores["requests_per_s"].value == pytest.approx(72 / seconds)


@pytest.mark.parametrize(("tokens", "latency", "within"), [(1, 30.0, 0), (0, 30.0, 0), (1, 1.05, 1), (0, 0.0, 1)])
def test_answers_without_output_time_are_judged_by_their_latency(tokens: int, latency: float, within: int) -> None:
    some = [TimedAnswer(None, 0.5, max(0.5, latency), tokens, (), number + 1.0) for number in range(24)]
    assert level_of(some, 24.0, Limits(1.0, 0.1), concurrent_users=1).scores["within_limits"].value == within
