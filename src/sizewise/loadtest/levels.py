"""What many users met with, as scores: the same whether they asked over a connection or in this process.

Times are those of vLLM's benchmark: to the first token; a token after the first, (whole - first) / (tokens - 1); the
gaps between pieces. Goodput counts answers within stated limits (Zhong et al., 2024, DistServe).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sizewise.metrics.proportion import proportion_score
from sizewise.records import LoadLevel, Score
from sizewise.stats import percentile_interval

ROUNDS = 1_000


class TimedAnswer(NamedTuple):
    """What one request met with."""

    error: str | None
    first_s: float
    """Seconds to the first token."""
    whole_s: float
    """Seconds to the last one."""
    tokens: int
    gaps: tuple[float, ...]
    """Seconds between pieces."""


class Limits(NamedTuple):
    """What users bear."""

    ttft_s: float = 1.0
    token_s: float = 0.1

    def kept(self, answer: TimedAnswer) -> bool:
        """Tell whether an answer came within them."""
        token = (answer.whole_s - answer.first_s) / (answer.tokens - 1) if answer.tokens > 1 else 0.0
        return answer.error is None and answer.first_s <= self.ttft_s and token <= self.token_s


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
    """Sum up what so many users, or requests a second, met with.

    Args:
        answers: one for each request.
        seconds: from the first request to the last answer.
        limits: what users bear.
        concurrent_users: users at once; None where requests came at a rate.
        rate: requests a second.
        where: what ran it, for the signature.
        seed: seed of the resampling.
    """
    good = [answer for answer in answers if answer.error is None]
    first = np.array([answer.first_s for answer in good])
    token = np.array([(a.whole_s - a.first_s) / (a.tokens - 1) for a in good if a.tokens > 1])
    whole = np.array([answer.whole_s for answer in good])
    gaps = np.array([gap for answer in good for gap in answer.gaps])
    kept = sum(limits.kept(answer) for answer in answers)
    way = (f"users:{concurrent_users}" if concurrent_users else f"poisson:{rate:g}/s") + (f"|{where}" if where else "")
    scores = {
        name: _quantile(name, values, share, way, seed)
        for name, values, share in (
            ("p50_ttft_s", first, 0.5),
            ("p95_ttft_s", first, 0.95),
            ("p50_tpot_s", token, 0.5),
            ("p95_tpot_s", token, 0.95),
            ("p95_itl_s", gaps, 0.95),
            ("p50_latency_s", whole, 0.5),
            ("p95_latency_s", whole, 0.95),
        )
    }
    within = f"{way}|first token <= {limits.ttft_s:g} s|token <= {limits.token_s:g} s"
    scores["within_limits"] = proportion_score("within_limits", kept, len(answers), signature=f"{within}|wilson")
    for name, count, unit, signature in (
        ("tokens_per_s", sum(answer.tokens for answer in good), "tokens/s", way),
        ("requests_per_s", len(good), "requests/s", way),
        ("goodput_per_s", kept, "requests/s", within),
    ):
        scores[name] = Score(metric=name, value=count / seconds, n=len(good), unit=unit, signature=signature)
    errors = Counter(answer.error for answer in answers if answer.error)
    return LoadLevel(
        concurrent_users=concurrent_users,
        rate=rate,
        requests=len(answers),
        errors=dict(errors),
        seconds=seconds,
        scores=scores,
    )


def _quantile(name: str, values: npt.NDArray[np.float64], share: float, way: str, seed: int) -> Score:
    if not len(values):
        return Score(metric=name, n=0, unit="s", signature=way, missing_reason="no answer")
    find: Callable[..., Any] = np.quantile
    drawn = np.random.default_rng(seed).integers(0, len(values), (ROUNDS, len(values)))
    ci_low, ci_high = percentile_interval(find(values[drawn], share, axis=1))
    return Score(
        metric=name,
        value=float(find(values, share)),
        ci_low=ci_low,
        ci_high=ci_high,
        n=len(values),
        unit="s",
        signature=f"{way}|bootstrap:requests",
    )
