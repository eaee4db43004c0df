"""Latency, throughput and goodput of a load level, for an endpoint and for an engine in this process alike.

Latencies are defined as in vLLM's benchmark: time to first token (TTFT); time per output token (TPOT), which is
(latency - TTFT) / (tokens - 1); inter-token latency (ITL), the gaps between streamed pieces. Goodput counts the
requests that meet all latency limits (Zhong et al., 2024, DistServe).

A failed request counts as slower than any answer in quantiles of TTFT and latency, and as outside the limits. An answer
of fewer than two tokens has no TPOT; it meets the limits if its latency is at most that of the first token plus one.

Intervals take requests as independent: quantiles of requests lie between two order statistics, those of gaps between
tokens count requests as groups, and rates (throughput, goodput) come from batches of consecutive requests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from sizewise.errors import UsageError
from sizewise.metrics.proportion import proportion_score
from sizewise.records import LoadLevel, Score
from sizewise.stats.batch_means import MIN_BATCHES, rate_interval
from sizewise.stats.quantiles import (
    QuantileInterval,
    clustered_quantile_interval,
    needed_for_quantile,
    quantile_interval,
)

MIN_WITHIN_LIMITS = 0.95
HIGHEST_QUANTILE = 0.95
LOAD_VERSION = 2
"""Raised when values or intervals of the same timings change; part of a load test's id."""


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
    ended_s: float | None = None
    """Seconds from the beginning of the level to the end of the request, if recorded."""

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
        if answer.error is not None or answer.ttft_s > self.ttft_s:
            return False
        if answer.tpot_s is None:  # no time per output token: the first token and one more
            return answer.latency_s <= self.ttft_s + self.tpot_s
        return answer.tpot_s <= self.tpot_s


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
) -> LoadLevel:
    """Score one load level: latency quantiles, throughput, and goodput within the limits.

    Args:
        answers: timing of each request.
        seconds: time from the first request to the last answer.
        limits: latency limits of a request.
        concurrent_users: number of concurrent users; None if requests were sent at a rate.
        rate: requests per second, if they were sent at a rate.
        where: engine and precision, for the signature.
    """
    successful = [answer for answer in answers if answer.error is None]
    load = (f"users:{concurrent_users}" if concurrent_users else f"poisson:{rate:g}/s") + (f"|{where}" if where else "")
    ttft = [answer.ttft_s for answer in successful]
    tpot = [answer.tpot_s for answer in successful if answer.tpot_s is not None]
    latency = [answer.latency_s for answer in successful]
    failed = len(answers) - len(successful)
    scores = {
        name: _quantile_score(name, values, share, load, unanswered)
        for name, values, share, unanswered in (
            ("p50_ttft_s", ttft, 0.5, failed),
            ("p95_ttft_s", ttft, HIGHEST_QUANTILE, failed),
            ("p50_tpot_s", tpot, 0.5, 0),
            ("p95_tpot_s", tpot, HIGHEST_QUANTILE, 0),
            ("p50_latency_s", latency, 0.5, failed),
            ("p95_latency_s", latency, HIGHEST_QUANTILE, failed),
        )
    }
    scores["p95_itl_s"] = _gap_score([answer.gaps for answer in successful], load)
    scores |= _rate_scores(answers, seconds, limits, concurrent_users or 1, load)
    return LoadLevel(
        concurrent_users=concurrent_users,
        rate=rate,
        requests=len(answers),
        errors=dict(Counter(answer.error for answer in answers if answer.error)),
        seconds=seconds,
        scores=scores,
    )


def _rate_scores(
    answers: Sequence[TimedAnswer], seconds: float, limits: Limits, per_batch: int, load: str
) -> dict[str, Score]:
    """Score throughput, goodput and the share of requests within the limits."""
    goodput_signature = f"{load}|first token <= {limits.ttft_s:g} s|token <= {limits.tpot_s:g} s"
    within = [int(limits.met_by(answer)) for answer in answers]
    signature = f"{goodput_signature}|wilson"
    scores = {"within_limits": proportion_score("within_limits", sum(within), len(answers), signature=signature)}
    successful = [int(answer.error is None) for answer in answers]
    seconds = max([seconds, *(answer.ended_s or 0.0 for answer in answers)])
    for name, amounts, unit, signature in (
        ("tokens_per_s", [answer.tokens * (answer.error is None) for answer in answers], "tokens/s", load),
        ("requests_per_s", successful, "requests/s", load),
        ("goodput_per_s", within, "requests/s", goodput_signature),
    ):
        ends = _rate_ends(answers, amounts, per_batch, seconds)
        scores[name] = Score(
            metric=name,
            value=sum(amounts) / seconds,
            ci_low=ends and ends[0],
            ci_high=ends and ends[1],
            n=sum(successful),
            unit=unit,
            signature=f"{signature}|batch means",
            ci_missing_reason="" if ends else f"fewer than {MIN_BATCHES} requests per user",
        )
    return scores


def max_users_within_limits(levels: Sequence[LoadLevel]) -> int | None:
    """Return the largest number of concurrent users with at least 95 % of requests within the limits, if any."""
    counts = [
        level.concurrent_users
        for level in levels
        if level.concurrent_users and (level.scores["within_limits"].value or 0) >= MIN_WITHIN_LIMITS
    ]
    return max(counts, default=None)


def interval_notes(levels: Sequence[LoadLevel]) -> list[str]:
    """List the intervals that the levels are too short for, with the number of requests that would do."""
    needed, notes = needed_for_quantile(HIGHEST_QUANTILE), []
    short = [level for level in levels if _lacks_upper_end(level.scores.get("p95_latency_s"))]
    if short:
        notes.append(
            f"p95 has no upper bound at {_loads(short)}: {needed} successful requests per level are needed to verify "
            f"a limit on p95, more if some fail, and {', '.join(map(str, map(_succeeded, short)))} succeeded."
        )
    unbatched = [level for level in levels if level.scores["requests_per_s"].ci_low is None]
    if unbatched:
        most = max(level.concurrent_users or 1 for level in unbatched)
        notes.append(
            f"Throughput and goodput have no interval at {_loads(unbatched)}: at least {MIN_BATCHES} requests per user "
            f"are needed, {MIN_BATCHES * most} in all."
        )
    return notes


def _lacks_upper_end(score: Score | None) -> bool:
    return score is not None and score.value is not None and score.ci_high is None


def _succeeded(level: LoadLevel) -> int:
    return level.requests - sum(level.errors.values())


def _loads(levels: Sequence[LoadLevel]) -> str:
    counts = [level.concurrent_users for level in levels if level.concurrent_users]
    if not counts:
        return ", ".join(f"{level.rate:g} requests/s" for level in levels)
    return f"{', '.join(map(str, counts))} user{'s' * (counts != [1])}"


def _quantile_score(name: str, values: Sequence[float], share: float, load: str, failed: int) -> Score:
    """Score a quantile of requests with the exact interval between two of their order statistics.

    Args:
        name: name of the metric.
        values: times of the answered requests.
        share: the quantile.
        load: the load, for the signature.
        failed: number of failed requests, each of which is slower than any answer.
    """
    n, signature = len(values) + failed, f"{load}|order statistics of requests"
    if not values:
        return _score_of(name, None, 0, signature)
    if failed > (1 - share) * n + 1e-9:
        absent = f"{failed} of {n} requests failed, more than {100 * (1 - share):.0f} %"
        return Score(metric=name, n=n, unit="s", signature=signature, missing_reason=absent)
    slowest = max(values)
    found = quantile_interval([*values, *[10 * slowest + 1] * failed], share)
    if found.ci_high is not None and found.ci_high > slowest:
        found = found._replace(ci_high=None)
    return _score_of(name, found._replace(value=min(found.value, slowest)), n, signature)


def _gap_score(gaps: Sequence[Sequence[float]], load: str) -> Score:
    """Score the p95 gap between streamed pieces; n counts requests, whose gaps depend on each other."""
    with_gaps = [group for group in gaps if len(group)]
    found = clustered_quantile_interval(with_gaps, HIGHEST_QUANTILE) if with_gaps else None
    return _score_of("p95_itl_s", found, len(with_gaps), f"{load}|order statistics of gaps, clustered by request")


def _score_of(name: str, found: QuantileInterval | None, n: int, signature: str) -> Score:
    if found is None:
        return Score(metric=name, n=0, unit="s", signature=signature, missing_reason="no request succeeded")
    absent = f"no upper end from {n} requests" if found.ci_high is None else ""
    return Score(
        metric=name,
        value=found.value,
        ci_low=found.ci_low,
        ci_high=found.ci_high,
        n=n,
        unit="s",
        signature=signature,
        ci_missing_reason=absent,
    )


def _rate_ends(
    answers: Sequence[TimedAnswer], amounts: Sequence[float], per_batch: int, seconds: float
) -> tuple[float, float] | None:
    ends = [answer.ended_s for answer in answers if answer.ended_s is not None]
    return rate_interval(amounts, ends, per_batch, seconds=seconds) if len(ends) == len(answers) else None
