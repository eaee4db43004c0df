"""What the answer would be if the needs were a little different: the decision itself, asked again."""

from __future__ import annotations

from math import ceil, floor, log10
from typing import Any, NamedTuple

from sizewise.choice.costing import level_for
from sizewise.choice.deciding import decide
from sizewise.choice.evidence import GB, Choice
from sizewise.records import Comparison, Needs, Recommendation

UNDER, MOST = 0.99, 12


class Alternative(NamedTuple):
    """One change of the needs, and the answer then."""

    change: str
    """What is changed, in words."""
    recommendation: Recommendation


class Slider(NamedTuple):
    """A need that can be moved, and between which values it decides anything."""

    name: str
    """Field of the needs."""
    label: str
    unit: str
    lower: float
    upper: float
    value: float | None
    """What the needs say now; None: no limit."""


def alternatives(comparison: Comparison, comparison_id: str, needs: Needs) -> list[Alternative]:
    """Ask again with each limit just too tight for one of the candidates, and with text kept on this machine.

    Of changes that lead to one answer the first is given, the least tight; at most a dozen.
    """
    choice = Choice(comparison, needs)
    now = decide(comparison, comparison_id, needs)
    changes: list[tuple[str, dict[str, Any]]] = []
    if any(not choice.local(name) for name in choice.names) and not needs.local_only:
        changes.append(("if no text may leave this machine", {"local_only": True}))
    for field, words, unit, values in (
        (
            "max_latency_s",
            "if an answer may take at most",
            "s",
            [choice.value("latency_s", n) for n in choice.names],
        ),
        (
            "max_memory_gb",
            "if at most this much memory is there:",
            "GB",
            [value / GB if (value := choice.value("memory_bytes", n)) else None for n in choice.names],
        ),
    ):
        for value in sorted({value for value in values if value}, reverse=True):
            limit = _rounded(UNDER * value, down=True)
            changes.append((f"{words} {limit:g} {unit}", {field: limit}))
    for name in choice.names:
        score = choice.score(choice.quality, name)
        edge = None if score is None else score.ci_low if choice.higher else score.ci_high
        if edge is not None:
            least = _rounded(edge, down=choice.higher)
            changes.append((f"if {choice.title} of {least:g} is good enough", {"min_quality": least}))
    found, seen = [], {_said(now)}
    for words, change in changes:
        other = decide(comparison, comparison_id, needs.model_copy(update=change))
        if _said(other) not in seen:
            seen.add(_said(other))
            found.append(Alternative(words, other))
    return found[:MOST]


def _rounded(value: float, down: bool) -> float:
    """Round to three significant digits, to the side on which a limit still does what it should."""
    if not value:
        return 0.0
    step = 10.0 ** (floor(log10(abs(value))) - 2)
    return float(f"{(floor if down else ceil)(value / step) * step:.3g}")


def _said(one: Recommendation) -> tuple[str, str | None, bool]:
    return one.outcome, one.pick, one.decisive


def sliders(comparison: Comparison, needs: Needs) -> list[Slider]:
    """Give the needs that can be moved, each between the least and the most that was measured."""
    choice = Choice(comparison, needs)
    found = []
    quality = [
        score for name in choice.names if (score := choice.score(choice.quality, name)) and score.value is not None
    ]
    if quality:
        ends = [end for score in quality for end in (score.ci_low, score.ci_high, score.value) if end is not None]
        found.append(Slider("min_quality", f"Least {choice.title}", "", min(ends), max(ends), needs.min_quality))
    latency = [value for name in choice.names if (value := choice.value("latency_s", name))]
    if latency:
        label = "Longest time of an answer"
        found.append(Slider("max_latency_s", label, "s", 0.5 * min(latency), max(latency), needs.max_latency_s))
    memory = [value / GB for name in choice.names if (value := choice.value("memory_bytes", name))]
    if memory:
        found.append(Slider("max_memory_gb", "Most memory", "GB", 0.5 * min(memory), max(memory), needs.max_memory_gb))
    levels = [level_for(comparison, name, needs) for name in choice.names]
    p95 = [value for level in levels if level and (value := level.scores["p95_latency_s"].value)]
    if p95:
        label = f"95 % of the answers within, with {max(level.concurrent_users or 0 for level in levels if level)} users at once"
        found.append(Slider("max_latency_p95_s", label, "s", 0.5 * min(p95), max(p95), needs.max_latency_p95_s))
    gaps = [gap for name in choice.names if (gap := choice.bias_gap(name)) is not None]
    if gaps:
        label = "Preferred stereotypes at most so far from one half"
        found.append(Slider("max_bias_gap", label, "", 0.0, max(0.01, *gaps), needs.max_bias_gap))
    found += [
        Slider(
            "max_cost_usd_per_1000",
            "Most money for 1,000 answers",
            "USD",
            0.001,
            100,
            needs.max_cost_usd_per_1000,
        ),
        Slider("requests_per_month", "Requests a month", "", 100, 10_000_000, needs.requests_per_month),
        Slider("machine_usd_per_hour", "An hour of the machine", "USD", 0.01, 10, needs.machine_usd_per_hour),
    ]
    return found
