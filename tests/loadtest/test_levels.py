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
        "and 24, 24 succeeded.",
        "Throughput and goodput have no interval at 8 users: at least 4 requests per user are needed, 32 in all.",
    ]
    assert short.scores["goodput_per_s"].ci_missing_reason == "fewer than 4 requests per user"
    assert short.scores["p95_latency_s"].ci_missing_reason == "no upper end from 24 requests"


def test_failed_requests_lower_throughput_but_have_no_latency() -> None:
    some = answers(24, 1)
    some[3] = TimedAnswer("timed out", 0.0, 9.0, 0, (), some[3].ended_s)
    level = level_of(some, 15, Limits(), concurrent_users=1)
    assert level.scores["p50_latency_s"].n == level.scores["requests_per_s"].n == 23
    assert level.scores["requests_per_s"].value == pytest.approx(23 / 15)
