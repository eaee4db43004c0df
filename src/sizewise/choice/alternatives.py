"""What-if analysis: the same decision under slightly different needs."""

from __future__ import annotations

from math import ceil, floor, log10
from typing import Any, NamedTuple

from sizewise.choice.costing import level_for
from sizewise.choice.deciding import decide
from sizewise.choice.evidence import GB, Choice
from sizewise.metrics.display import plain_value
from sizewise.records import Comparison, Needs, Recommendation

TIGHTER = 0.99
"""Ratio of a tested limit to a candidate's measured value."""
MAX_ALTERNATIVES = 12


class Alternative(NamedTuple):
    """One change of the needs, and the resulting recommendation."""

    change: str
    """The change, in words."""
    recommendation: Recommendation


class Slider(NamedTuple):
    """An adjustable need, and the range in which it affects the decision."""

    name: str
    """Field of the needs."""
    label: str
    unit: str
    lower: float
    upper: float
    value: float | None
    """Current value; None if there is no limit."""


def alternatives(comparison: Comparison, comparison_id: str, needs: Needs) -> list[Alternative]:
    """Repeat the decision with each limit just too tight for one candidate, and with all text kept on this machine.

    If several changes lead to the same result, only the first (the loosest) is kept. At most a dozen are returned.
    """
    choice = Choice(comparison, needs)
    needs = needs.model_copy(update={"quality": choice.quality})  # a minimum alone could be one of another metric
    alternatives, seen = [], {_result(decide(comparison, comparison_id, needs))}
    for description, change in _changes(choice, needs):
        recommendation = decide(comparison, comparison_id, needs.model_copy(update=change))
        if _result(recommendation) not in seen:
            seen.add(_result(recommendation))
            alternatives.append(Alternative(description, recommendation))
    return alternatives[:MAX_ALTERNATIVES]


def _changes(choice: Choice, needs: Needs) -> list[tuple[str, dict[str, Any]]]:
    """List the changes to try, each with its description."""
    changes: list[tuple[str, dict[str, Any]]] = []
    if any(not choice.local(name) for name in choice.names) and not needs.local_only:
        changes.append(("all text must stay on this machine", {"local_only": True}))
    latencies = [choice.value("latency_s", name) for name in choice.names]
    memory = [value / GB if (value := choice.value("memory_bytes", name)) else None for name in choice.names]
    for field, title, unit, values in (
        ("max_latency_s", "maximum median latency", "s", latencies),
        ("max_memory_gb", "maximum memory", "GB", memory),
    ):
        for value in sorted({value for value in values if value}, reverse=True):
            limit = _rounded(TIGHTER * value, down=True)
            changes.append((f"{title}: {limit:g} {unit}", {field: limit}))
    for name in choice.names:
        score = choice.score(choice.quality, name)
        bound = None if score is None else score.ci_low if choice.higher else score.ci_high
        if score is not None and bound is not None:
            minimum = _rounded(bound, down=choice.higher)
            limit_name = "minimum" if choice.higher else "maximum"
            shown = plain_value(choice.quality, score.unit, minimum)
            change = {"min_quality": minimum, "incumbent": None, "max_loss": None}  # asks for another kind of pick
            changes.append((f"{limit_name} {choice.title}: {shown}", change))
    return changes


def _rounded(value: float, down: bool) -> float:
    """Round to three significant digits, in the direction that preserves the effect of the limit."""
    if not value:
        return 0.0
    step = 10.0 ** (floor(log10(abs(value))) - 2)
    return float(f"{(floor if down else ceil)(value / step) * step:.3g}")


def _result(recommendation: Recommendation) -> tuple[str, str | None, bool]:
    return recommendation.outcome, recommendation.pick, recommendation.decisive


def sliders(comparison: Comparison, needs: Needs) -> list[Slider]:
    """List the adjustable needs, each with its measured range."""
    choice = Choice(comparison, needs)
    found: list[Slider] = []
    quality = [
        score for name in choice.names if (score := choice.score(choice.quality, name)) and score.value is not None
    ]
    if quality and needs.incumbent is None:
        ends = [end for score in quality for end in (score.ci_low, score.ci_high, score.value) if end is not None]
        label = f"{'Minimum' if choice.higher else 'Maximum'} {choice.title}"
        found.append(Slider("min_quality", label, "", min(ends), max(ends), needs.min_quality))
    latency = [value for name in choice.names if (value := choice.value("latency_s", name))]
    if latency:
        label = "Maximum median latency"
        found.append(Slider("max_latency_s", label, "s", 0.5 * min(latency), max(latency), needs.max_latency_s))
    memory = [value / GB for name in choice.names if (value := choice.value("memory_bytes", name))]
    if memory:
        found.append(
            Slider("max_memory_gb", "Maximum memory", "GB", 0.5 * min(memory), max(memory), needs.max_memory_gb)
        )
    levels = [level_for(comparison, name, needs) for name in choice.names]
    p95 = [value for level in levels if level and (value := level.scores["p95_latency_s"].value)]
    if p95:
        concurrency = max(level.concurrent_users or 0 for level in levels if level)
        label = f"Maximum p95 latency, {concurrency} concurrent users"
        found.append(Slider("max_latency_p95_s", label, "s", 0.5 * min(p95), max(p95), needs.max_latency_p95_s))
    gaps = [gap for name in choice.names if (gap := choice.bias_gap(name)) is not None]
    if gaps:
        label = "Maximum stereotype bias (0 to 0.5)"
        found.append(Slider("max_bias_gap", label, "", 0.0, max(0.01, *gaps), needs.max_bias_gap))
    found += [
        Slider(
            "max_cost_usd_per_1000",
            "Maximum cost per 1,000 requests",
            "USD",
            0.001,
            100,
            needs.max_cost_usd_per_1000,
        ),
        Slider("requests_per_month", "Requests per month", "", 100, 10_000_000, needs.requests_per_month),
        Slider("machine_usd_per_hour", "Machine price per hour", "USD", 0.01, 10, needs.machine_usd_per_hour),
    ]
    return found
