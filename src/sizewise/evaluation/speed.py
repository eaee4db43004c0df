"""Measures latency, throughput, cost and size of a model, as scores."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from sizewise.models import Model
from sizewise.models.batching import MAX_BATCH
from sizewise.progress import Reporter, seconds_left
from sizewise.records import Completion, ModelDescription, Request, Score
from sizewise.stats.batch_means import MIN_BATCHES, rate_interval
from sizewise.stats.quantiles import needed_for_quantile, quantile_interval
from sizewise.store import Ledger

LATENCY_REQUESTS = needed_for_quantile(0.5)
"""Timed requests of a local model: the fewest whose minimum and maximum form a 95% interval of the median."""
UNLIKE = 5.0
"""Ratio of the slowest to the fastest of these from which as many more are timed: else one slow answer is the bound."""
MIN_UNLIKE_S = 0.2
TRANSFORMERS_BATCH = 64
"""Prompts that `lm.generate` answers together, greedily."""
MAX_TIMING_S = 90.0
"""Time after which no further single request is timed."""


def speed_scores(
    model: Model,
    answers: Sequence[Completion],
    requests: Sequence[Request],
    ledger: Ledger,
    reporter: Reporter,
    *,
    sampled: bool = False,
) -> dict[str, Score]:
    """Time a few single requests once, and derive throughput, token counts and cost from the answers collected.

    If the step has no time left for another single request, those that were timed count.

    Args:
        model: model to time.
        answers: answers already collected, without failed ones.
        requests: the requests that they answer.
        ledger: keeps the times, so that a larger sample of the same evaluation doesn't measure them again.
        reporter: receives progress.
        sampled: whether answers were sampled, which transformers does in smaller batches.
    """
    return _speed(model, answers, requests, ledger, reporter, sampled) | _use(answers, model.describe())


def _use(answers: Sequence[Completion], description: ModelDescription) -> dict[str, Score]:
    """Compute mean tokens per answer, and cost per 1,000 answers where answers have a price.

    The signature of token counts says how many answers were cut off, because those are shorter than a whole answer.
    """
    cut = sum(answer.finish == "length" for answer in answers)
    basis, factors = description.price_basis or "list prices (genai-prices)", description.price_factors
    values: dict[str, tuple[str, list[float]]] = {
        "prompt_tokens": ("tokens", _by_item((a.id, a.prompt_tokens) for a in answers if a.prompt_tokens)),
        "completion_tokens": ("tokens", _by_item((a.id, a.completion_tokens) for a in answers if _has_token_count(a))),
    }
    reasoned = _by_item((answer.id, answer.reasoning_tokens) for answer in answers)
    if any(reasoned):
        values["reasoning_tokens"] = ("tokens", reasoned)
    paid = _by_item((answer.id, 1000 * answer.usd) for answer in answers if answer.usd is not None)
    if paid:
        values["usd_per_1000"] = ("USD", paid)
    scores = {}
    for name, (unit, numbers) in values.items():
        if not numbers or not (unit == "USD" or any(numbers)):  # an answer may cost nothing
            continue
        half = 1.96 * float(np.std(numbers, ddof=1)) / len(numbers) ** 0.5 if len(numbers) > 1 else None
        mean = float(np.mean(numbers))
        lower, upper = factors if unit == "USD" else (1.0, 1.0)
        detail = f"|{basis}" if unit == "USD" else f"|cut off:{cut}" if cut and name == "completion_tokens" else ""
        scores[name] = Score(
            metric=name,
            value=mean,
            ci_low=None if half is None else max(0.0, mean - half) * lower,
            ci_high=None if half is None else (mean + half) * upper,
            n=len(numbers),
            unit=unit,
            signature=f"mean of answers|normal{detail}",
        )
    return scores


def _by_item(amounts: Iterable[tuple[str, float]]) -> list[float]:
    """Average the amounts of each item, because several answers to one item depend on each other."""
    found: dict[str, list[float]] = {}
    for item, amount in amounts:
        found.setdefault(item, []).append(float(amount))
    return [sum(each) / len(each) for each in found.values()]


def _has_token_count(answer: Completion) -> bool:
    """Check whether the token count of an answer is known: a nonempty answer with 0 tokens came without one."""
    return bool(answer.completion_tokens) or not (answer.text or answer.reasoning)


def _speed(
    model: Model,
    answers: Sequence[Completion],
    requests: Sequence[Request],
    ledger: Ledger,
    reporter: Reporter,
    sampled: bool,
) -> dict[str, Score]:
    description = model.describe()
    seconds = sum(answer.seconds for answer in answers)
    tokens = sum(answer.completion_tokens for answer in answers)
    where = f"engine:{description.engine}|precision:{description.precision}"
    if description.engine == "recorded" and seconds and all(answer.seconds for answer in answers):
        return _speed_of_recording(answers, description, where)
    if description.engine in ("rule", "recorded") or not answers or not seconds:
        absent = "the answers were not timed" if answers else "no request was answered"
        absent = "a rule-based baseline has no speed" if description.engine == "rule" else absent
        return {
            name: Score(metric=name, n=0, unit=unit, signature=where, missing_reason=absent)
            for name, unit in (("latency_s", "s"), ("requests_per_s", "answers/s"))
        }
    if description.api:
        return _speed_of_api(answers, where)
    times = [float(entry["seconds"]) for entry in ledger.entries("timing").values()]
    for request in requests[len(times) : 2 * LATENCY_REQUESTS]:
        wanted = LATENCY_REQUESTS if len(times) < LATENCY_REQUESTS or not _are_unlike(times) else 2 * LATENCY_REQUESTS
        if len(times) >= wanted:
            break
        # Alone, a request takes at least as long as its share of a batch.
        if sum(times) > MAX_TIMING_S or seconds_left() < max(times, default=seconds / len(answers)):
            break
        start = time.perf_counter()
        list(model.complete([request]))
        times.append(time.perf_counter() - start)
        ledger.append("timing", request.id, {"seconds": times[-1]})
        reporter.advance("Timing single requests", len(times), min(wanted, len(requests)))
    return {
        "latency_s": _latency(times, f"users:1|{where}") if times else _untimed(f"median|users:1|{where}"),
        "requests_per_s": _throughput(answers, f"{_batching(description, sampled)}|tokens:{tokens}|{where}"),
    }


def _latency(times: Sequence[float], where: str) -> Score:
    """Score the median latency and its interval by order statistics, for APIs and local models alike."""
    found = quantile_interval(times, 0.5)
    return Score(
        metric="latency_s",
        value=found.value,
        ci_low=found.ci_low,
        ci_high=found.ci_high,
        n=len(times),
        unit="s",
        signature=f"median|{where}",
        ci_missing_reason="" if found.ci_low is not None else f"fewer than {LATENCY_REQUESTS} requests",
    )


def _untimed(signature: str) -> Score:
    return Score(
        metric="latency_s",
        n=0,
        unit="s",
        signature=signature,
        missing_reason="no time was left to time a single request",
    )


def _batching(description: ModelDescription, sampled: bool) -> str:
    """Describe how the engine batches the requests of an evaluation."""
    if description.engine == "transformers":
        return f"batches of up to {MAX_BATCH if sampled else TRANSFORMERS_BATCH}"
    return (
        "continuous batching" if description.engine.startswith(("openvino", "llama.cpp")) else "batching of the engine"
    )


def _are_unlike(times: Sequence[float]) -> bool:
    """Check whether the first timed requests took very unlike times, as when few answers run to their limit."""
    first = times[:LATENCY_REQUESTS]
    return max(first) > max(UNLIKE * min(first), MIN_UNLIKE_S)


def _throughput(answers: Sequence[Completion], signature: str) -> Score:
    """Score answers per second; answers of one batch share its duration, so batches are what varies."""
    batches = Counter(answer.seconds for answer in answers)
    ends = np.cumsum([seconds * count for seconds, count in batches.items()])
    found = rate_interval(list(batches.values()), ends)
    return Score(
        metric="requests_per_s",
        value=len(answers) / float(ends[-1]),
        ci_low=found and found[0],
        ci_high=found and found[1],
        n=len(answers),
        unit="answers/s",
        signature=signature,
        ci_missing_reason="" if found else f"fewer than {MIN_BATCHES} batches of requests",
    )


def _speed_of_api(answers: Sequence[Completion], where: str) -> dict[str, Score]:
    """Compute latency from the concurrent requests already made; new requests would cost money."""
    return {
        "latency_s": _latency([answer.seconds for answer in answers], f"users:many|{where}"),
        "requests_per_s": Score(
            metric="requests_per_s",
            n=0,
            unit="answers/s",
            signature=where,
            missing_reason="depends on the provider's rate limits",
        ),
    }


def _speed_of_recording(answers: Sequence[Completion], description: ModelDescription, where: str) -> dict[str, Score]:
    """Compute latency from the recorded times; throughput only of a local model, which answered one by one."""
    latency = _latency([answer.seconds for answer in answers], f"users:not recorded|{where}")
    if not description.local or description.process:
        absent = "people work in parallel" if description.process else "depends on the provider's rate limits"
        rate = Score(metric="requests_per_s", n=0, unit="answers/s", signature=where, missing_reason=absent)
        return {"latency_s": latency, "requests_per_s": rate}
    return {"latency_s": latency, "requests_per_s": _throughput(answers, f"one request at a time|{where}")}


def size_scores(description: ModelDescription) -> dict[str, Score]:
    """Score the parameter count, memory and disk size of a model."""
    counted = description.parameters_source or "exact count"
    facts = {
        "parameters": (description.parameters, "parameters", counted if description.parameters else "exact count"),
        "memory_bytes": (description.memory_bytes, "bytes", "weights + one user's cache at 1024 tokens"),
        "disk_bytes": (description.disk_bytes, "bytes", "weight files"),
    }
    return {
        name: Score(
            metric=name,
            value=value,
            ci_low=value,
            ci_high=value,
            n=1,
            unit=unit,
            signature=signature,
            missing_reason=None if value is not None else "not published",
        )
        for name, (value, unit, signature) in facts.items()
    }
