"""In which ways one of two candidates is easier to run: faster, smaller, cheaper. One answer for every surface."""

from __future__ import annotations

from sizewise.choice.costing import level_for
from sizewise.choice.evidence import Choice

NOTABLE_RATIO = 1.2
"""Smaller ratios of latency or memory aren't worth a sentence, and often noise."""


def speed_ratio(choice: Choice, name: str, other: str) -> float:
    """Compute how many times faster a candidate is: under load where both were load-tested, else for a single user.

    Returns:
        The ratio of the latencies; 1 if one is unknown, if it isn't notable, or if load and single user disagree.
    """
    single = _ratio(choice.value("latency_s", name), choice.value("latency_s", other))
    loaded = _ratio(_p95(choice, name), _p95(choice, other))
    known = [ratio for ratio in (loaded, single) if ratio is not None]
    if not known or min(known) < 1 < max(known):
        return 1.0
    return _notable(known[0])


def size_ratio(choice: Choice, name: str, other: str) -> float:
    """Compute how many times less memory a candidate takes; 1 if one is unknown, or if it isn't notable."""
    return _notable(_ratio(choice.value("memory_bytes", name), choice.value("memory_bytes", other)) or 1.0)


def lighter_in(choice: Choice, name: str, other: str) -> list[str]:
    """List in which ways a candidate is lighter than another one: smaller, faster, cheaper."""
    cheaper = _ratio(_usd(choice, name), _usd(choice, other)) or 1.0
    claims = {
        "smaller": size_ratio(choice, name, other) > 1,
        "faster": speed_ratio(choice, name, other) > 1,
        "cheaper": cheaper >= NOTABLE_RATIO,
    }
    return [word for word, holds in claims.items() if holds]


def _p95(choice: Choice, name: str) -> float | None:
    level = level_for(choice.comparison, name, choice.needs)
    return level.scores["p95_latency_s"].value if level else None


def _usd(choice: Choice, name: str) -> float | None:
    cost = choice.cost(name).usd_per_1000
    return cost.expected if cost else None


def _ratio(ours: float | None, theirs: float | None) -> float | None:
    return theirs / ours if ours and theirs else None


def _notable(ratio: float) -> float:
    return ratio if max(ratio, 1 / ratio) >= NOTABLE_RATIO else 1.0
