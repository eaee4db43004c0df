"""What would change a verdict: more data, other needs, other candidates."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import ceil

from sizewise.choice.evidence import Choice
from sizewise.choice.limits import check_limits
from sizewise.choice.verdicts import Verdict
from sizewise.metrics.display import is_percentage, number
from sizewise.records import BreakEven, Difference

LIMITS = {
    "local_only": False,
    "max_latency_s": None,
    "max_latency_p95_s": None,
    "max_bias_gap": None,
    "max_harm_rate": None,
    "max_memory_gb": None,
    "max_cost_usd_per_1000": None,
    "excluded_licenses": (),
    "min_context_tokens": None,
}
"""Hard limits among the needs -> their value when they aren't set."""


def sensitivity_of(choice: Choice, verdict: Verdict, break_evens: Sequence[BreakEven]) -> list[str]:
    """List what would change a verdict."""
    lines = []
    if choice.needs.min_quality is None:
        scores = choice.comparison.scores[choice.quality].values()
        fraction = any(is_percentage(choice.quality, score.unit) for score in scores)
        scale = " as a fraction from 0 to 1" if fraction else ""
        # Without its metric, a minimum is one of the metric that was the default before.
        named = 'quality = "reference_match" and ' if choice.quality == "reference_match" else ""
        lines.append(
            f"a minimum score: set {named}min_quality ({choice.title}{scale}) under [needs]; only your experts can say "
            "what is good enough"
        )
    if choice.comparison.language_modeling_proxy:
        lines.append(
            "examples of the real task: set examples = FILE under [data] (JSONL with prompt and references), or draft "
            "some with sizewise synthesize FOLDER --by MODEL"
        )
    lines += _more_data(choice, verdict)
    if choice.needs.machine_usd_per_hour is None:
        lines.append("the machine's hourly price: set machine_usd_per_hour under [needs]; costs use an assumption now")
    if not choice.eligible_count:
        lines += _nearest(choice)
    for found in break_evens:
        if found.lower > found.machine_can:
            lines.append(
                f"request volume: {found.self_hosted} never becomes cheaper than {found.paid} within the capacity of "
                f"one machine ({found.machine_can:,} requests per month)"
            )
        elif found.upper > found.machine_can:
            lines.append(
                f"request volume: {found.self_hosted} becomes cheaper than {found.paid} at {found.lower:,} requests "
                f"per month at the earliest; at the highest cost, one machine is too little ({found.machine_can:,})"
            )
        else:
            lines.append(
                f"request volume: {found.self_hosted} becomes cheaper than {found.paid} at {found.lower:,} to "
                f"{found.upper:,} requests per month"
            )
    lines.append("other candidates: this verdict covers only the ones that were tried")
    return lines


def _more_data(choice: Choice, verdict: Verdict) -> list[str]:
    """Estimate how much data would separate each pair that is too close to call."""
    pairs = list(combinations(verdict.eligible, 2))
    if verdict.baseline:
        pairs = [(verdict.baseline, verdict.eligible[0])]
    lines = []
    for left, right in pairs:
        found = choice.difference(left, right)
        if found is None or choice.beats(left, right) or choice.beats(right, left):
            continue
        if found.clusters < choice.min_documents:
            lines.append(
                f"more documents: comparing {left} with {right} requires test examples from at least "
                f"{choice.min_documents} source documents; there are {found.clusters} now"
            )
        elif verdict.pick in (left, right, None):
            lines += _sample_size(choice, found)
    return lines


def _sample_size(choice: Choice, found: Difference) -> list[str]:
    """Estimate the sample that would detect a difference of this size."""
    factor = choice.factor_to_decide(found) if found.ci_low is not None and found.value else None
    if factor is None:
        return []
    if is_percentage(choice.quality, found.unit):
        size = f"a {number(100 * abs(found.value), 2)}-point difference in {choice.title}"
    else:
        size = f"a difference of {number(abs(found.value), 2)} in {choice.title}"
    required = _sample(ceil(factor * found.n), ceil(factor * found.clusters))
    return [
        f"more data: detecting {size} between {found.left} and {found.right} (80% power) takes about {required}; you "
        f"have {_sample(found.n, found.clusters)}"
    ]


def _sample(items: int, documents: int) -> str:
    """Describe a sample; documents are mentioned only if several items come from one."""
    return f"{items:,} test items" + (f" from {documents:,} documents" if documents != items else "")


def _nearest(choice: Choice) -> list[str]:
    """Find the limit or pair of limits that excludes every candidate, and who would be eligible without it."""
    given = [name for name, unset in LIMITS.items() if getattr(choice.needs, name) != unset]
    for size in (1, 2):
        lines = []
        for dropped in combinations(given, size):
            relaxed_needs = choice.needs.model_copy(update={name: LIMITS[name] for name in dropped})
            relaxed = Choice(choice.comparison, relaxed_needs)
            eligible = [name for name in relaxed.names if check_limits(relaxed, name).missed is None][:3]
            if eligible:
                limits = " and ".join(f"{name} = {getattr(choice.needs, name)}" for name in dropped)
                reasons = "; ".join(f"{name}: {check_limits(choice, name).missed}" for name in eligible)
                lines.append(f"closest match: without {limits}, {' and '.join(eligible)} would be eligible ({reasons})")
        if lines:
            return lines
    return ["other candidates: none is eligible even with any two of the limits removed"] if given else []
