"""Latency, throughput and goodput of a load level, for an endpoint and for an engine in this process alike.

Latencies are defined as in vLLM's benchmark: time to first token (TTFT); time per output token (TPOT), which is
(latency - TTFT) / (tokens - 1); inter-token latency (ITL), the gaps between streamed pieces. Goodput counts the
requests that meet all latency limits (Zhong et al., 2024, DistServe).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sizewise.errors import UsageError
from sizewise.metrics.proportion import proportion_score
from sizewise.records import LoadLevel, Score
from sizewise.stats import percentile_interval

ROUNDS = 1_000
MIN_WITHIN_LIMITS = 0.95


class TimedAnswer(NamedTuple):
    """Timing of one request, or its error."""

    error: str | None
    ttft_s: float
    """Time to first token."""
    latency_s: float
    """Time to the last token."""
    tokens: int
    gaps: tuple[float, ...]
    """Seconds between streamed pieces."""

    @property
    def tpot_s(self) -> float | None:
        """Time per output token after the first; None for answers of fewer than two tokens."""
        return (self.latency_s - self.ttft_s) / (self.tokens - 1) if self.tokens > 1 else None


class Limits(NamedTuple):
    """Latency limits of a request (service level objectives)."""

    ttft_s: float = 1.0
    """Maximum time to first token."""
    tpot_s: float = 0.1
    """Maximum time per output token."""

    def met_by(self, answer: TimedAnswer) -> bool:
        """Check whether a request succeeded within the limits."""
        return answer.error is None and answer.ttft_s <= self.ttft_s and (answer.tpot_s or 0.0) <= self.tpot_s


def check_users(concurrent_users: Sequence[int]) -> list[int]:
    """Sort the numbers of concurrent users, without duplicates.

    Raises:
        UsageError: the list is empty, or a number is below 1.
    """
    counts = sorted(set(concurrent_users))
    if not counts or counts[0] < 1:
        given = ", ".join(map(str, counts)) or "an empty list"
        raise UsageError(f"The number of concurrent users is {given}.", "at least 1 user", "--concurrency 1,8,32")
    return counts


def level_of(
    answers: Sequence[TimedAnswer],
    seconds: float,
    limits: Limits,
    *,
    concurrent_users: int | None = None,
    rate: float | None = None,
    where: str = "",
    seed: int = 0,
) -> LoadLevel:
    """Score one load level: latency quantiles, throughput, and goodput within the limits.

    Args:
        answers: timing of each request.
        seconds: time from the first request to the last answer.
        limits: latency limits of a request.
        concurrent_users: number of concurrent users; None if requests were sent at a rate.
        rate: requests per second, if they were sent at a rate.
        where: engine and precision, for the signature.
        seed: seed of the resampling.
    """
    successful = [answer for answer in answers if answer.error is None]
    ttft = np.array([answer.ttft_s for answer in successful])
    tpot = np.array([answer.tpot_s for answer in successful if answer.tpot_s is not None])
    latency = np.array([answer.latency_s for answer in successful])
    gaps = np.array([gap for answer in successful for gap in answer.gaps])
    within_limits = sum(limits.met_by(answer) for answer in answers)
    load = (f"users:{concurrent_users}" if concurrent_users else f"poisson:{rate:g}/s") + (f"|{where}" if where else "")
    scores = {
        name: _quantile(name, values, share, load, seed)
        for name, values, share in (
            ("p50_ttft_s", ttft, 0.5),
            ("p95_ttft_s", ttft, 0.95),
            ("p50_tpot_s", tpot, 0.5),
            ("p95_tpot_s", tpot, 0.95),
            ("p95_itl_s", gaps, 0.95),
            ("p50_latency_s", latency, 0.5),
            ("p95_latency_s", latency, 0.95),
        )
    }
    goodput_signature = f"{load}|first token <= {limits.ttft_s:g} s|token <= {limits.tpot_s:g} s"
    scores["within_limits"] = proportion_score(
        "within_limits", within_limits, len(answers), signature=f"{goodput_signature}|wilson"
    )
    for name, count, unit, signature in (
        ("tokens_per_s", sum(answer.tokens for answer in successful), "tokens/s", load),
        ("requests_per_s", len(successful), "requests/s", load),
        ("goodput_per_s", within_limits, "requests/s", goodput_signature),
    ):
        scores[name] = Score(metric=name, value=count / seconds, n=len(successful), unit=unit, signature=signature)
    return LoadLevel(
        concurrent_users=concurrent_users,
        rate=rate,
        requests=len(answers),
        errors=dict(Counter(answer.error for answer in answers if answer.error)),
        seconds=seconds,
        scores=scores,
    )


def max_users_within_limits(levels: Sequence[LoadLevel]) -> int | None:
    """Return the largest number of concurrent users with at least 95 % of requests within the limits, if any."""
    counts = [
        level.concurrent_users
        for level in levels
        if level.concurrent_users and (level.scores["within_limits"].value or 0) >= MIN_WITHIN_LIMITS
    ]
    return max(counts, default=None)


def _quantile(name: str, values: npt.NDArray[np.float64], share: float, load: str, seed: int) -> Score:
    if not len(values):
        return Score(metric=name, n=0, unit="s", signature=load, missing_reason="no request succeeded")
    quantile: Callable[..., Any] = np.quantile
    drawn = np.random.default_rng(seed).integers(0, len(values), (ROUNDS, len(values)))
    ci_low, ci_high = percentile_interval(quantile(values[drawn], share, axis=1))
    return Score(
        metric=name,
        value=float(quantile(values, share)),
        ci_low=ci_low,
        ci_high=ci_high,
        n=len(values),
        unit="s",
        signature=f"{load}|bootstrap:requests",
    )
