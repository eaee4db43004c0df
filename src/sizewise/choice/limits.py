"""Hard limits: kept, missed, or not verified because the interval of a measurement holds the limit."""

from __future__ import annotations

from typing import NamedTuple

from sizewise.choice.costing import level_for
from sizewise.choice.evidence import GB, Choice
from sizewise.metrics.display import number
from sizewise.records import ModelDescription, Score

MAX_FAILED_SHARE = 0.05
"""Share of failed requests above which a latency limit counts as missed."""
NOT_STATED = "not stated"
"""License of a model whose license isn't known."""


class Checked(NamedTuple):
    """The result of all limits for one candidate; both None if it keeps them."""

    missed: str | None
    """Which limit it exceeds, and by how much."""
    unverified: str | None
    """Which limit it may or may not exceed."""


class _Measured(NamedTuple):
    """A measured value with its interval, in the unit of its limit."""

    what: str
    value: float | None
    lower: float | None
    upper: float | None
    limit: float | None
    unit: str
    exact: bool = False
    """Whether the value is a fact, without sampling noise."""
    doubt: str = ""
    """What couldn't be measured, so that the value may be larger."""


def check_limits(choice: Choice, name: str) -> Checked:
    """Test a candidate against all limits of the needs."""
    missed = _excluded(choice, name) or _overloaded(choice, name)
    if missed:
        return Checked(missed, None)
    unverified = _license_unknown(choice, name)
    for found in _measurements(choice, name):
        if found.limit is None:
            continue
        limit_text = f"{found.limit:g} {found.unit}".rstrip()
        if found.value is None and found.doubt:
            unverified = unverified or _unverified(found, limit_text)
            continue
        if found.value is None:
            return Checked(f"its {found.what} wasn't measured, so the limit of {limit_text} can't be checked", None)
        value, lower, upper = found.value, found.lower, found.upper
        unknown = lower is None and upper is None
        if (value if unknown else lower or 0.0) > found.limit:
            excess = f"{value / found.limit:.2g}x" if found.limit else "above"
            shown = f"{value:.3g} {found.unit}".rstrip()
            return Checked(f"its {found.what} is {shown}, {excess} the limit of {limit_text}", None)
        if not found.exact and (upper is None or upper > found.limit):
            unverified = unverified or _unverified(found, limit_text)
    return Checked(None, unverified)


def _unverified(found: _Measured, limit_text: str) -> str:
    against = f"its {found.what} can't be verified against the limit of {limit_text}"
    if found.value is None:
        return f"{against}: {found.doubt}"
    if found.doubt:
        return f"{against}: {number(found.value)} where it was measured, but {found.doubt}"
    if found.lower is None and found.upper is None:
        ends = "too few measurements for an interval"
    else:
        upper = "any value" if found.upper is None else number(found.upper)
        ends = f"95% interval: {number(found.lower or 0.0)} to {upper}"
    shown = f"{number(found.value)} {found.unit}".rstrip()
    return f"{against}: {shown} ({ends})"


def _excluded(choice: Choice, name: str) -> str | None:
    """Check where the candidate runs, its license and its context length."""
    model, needs = choice.comparison.models[name], choice.needs
    if model.retired:
        return f"was shut down on {model.retires_on}, so it can't be used any more; its answers remain a yardstick"
    if needs.local_only and not choice.local(name):
        return _sends_text(model)
    excluded = next((word for word in needs.excluded_licenses if word.lower() in model.license.lower()), None)
    if excluded is not None:
        return f"its license ({model.license}) is excluded by '{excluded}'"
    if needs.min_context_tokens is not None and (model.context is None or model.context < needs.min_context_tokens):
        length = "unknown" if model.context is None else f"{model.context:,} tokens"
        return f"its context length is {length}; the minimum is {needs.min_context_tokens:,} tokens"
    return None


def _license_unknown(choice: Choice, name: str) -> str | None:
    """Explain that the license of a recorded model can't be checked, because it isn't stated."""
    model, excluded = choice.model(name), choice.needs.excluded_licenses
    if not excluded or model.license != NOT_STATED or model.engine != "recorded" or model.process:
        return None
    step = 'add license = "NAME" to its [[candidates]] table'
    return f"its license isn't stated, so it can't be checked against '{excluded[0]}': {step}"


def _sends_text(model: ModelDescription) -> str:
    """Explain where text would go, or that this is not stated."""
    policy = f" (data policy, as stated: {model.data_policy})" if model.data_policy else ""
    if model.hosted:
        return f"sends text off this machine: {model.hosted_by} runs it{policy}"
    if model.engine != "recorded":
        return f"sends text off this machine{policy}"
    line = "if it runs here, add local = true to its [[candidates]] table"
    naming = "" if model.of else '; otherwise name the model: of = "NAME"'
    return f"may send text off this machine, because where the recorded model runs isn't stated: {line}{naming}"


def _overloaded(choice: Choice, name: str) -> str | None:
    """Check whether so many requests failed under load that a latency limit counts as missed."""
    level = level_for(choice.comparison, name, choice.needs)
    if choice.needs.max_latency_p95_s is None or level is None:
        return None
    failed = sum(level.errors.values())
    if failed <= MAX_FAILED_SHARE * level.requests:
        return None
    return f"{failed} of {level.requests} requests failed with {level.concurrent_users} concurrent users"


def _measurements(choice: Choice, name: str) -> tuple[_Measured, ...]:
    """Collect the measured values that have limits."""
    needs = choice.needs
    level = level_for(choice.comparison, name, needs)
    p95 = level.scores["p95_latency_s"] if level else None
    concurrency = level.concurrent_users if level else needs.concurrent_users or "many"
    memory, cost = choice.value("memory_bytes", name), choice.cost_bound(name)
    model = choice.model(name)
    elsewhere = model.hosted or model.process == "staff"  # takes no memory of one's own
    return (
        _with_interval("median latency", choice.score("latency_s", name), needs.max_latency_s, "s"),
        _with_interval(f"p95 latency with {concurrency} concurrent users", p95, needs.max_latency_p95_s, "s"),
        *_bias(choice, name),
        _harm(choice, name),
        _Measured(
            "memory use",
            memory and memory / GB,
            None,
            None,
            None if elsewhere else needs.max_memory_gb,
            "GB",
            exact=True,
        ),
        _Measured("cost per 1,000 requests", cost, None, None, needs.max_cost_usd_per_1000, "USD", exact=True),
    )


def _with_interval(what: str, score: Score | None, limit: float | None, unit: str) -> _Measured:
    if score is None:
        return _Measured(what, None, None, None, limit, unit)
    return _Measured(what, score.value, score.ci_low, score.ci_high, limit, unit)


def _bias(choice: Choice, name: str) -> tuple[_Measured, ...]:
    """Measure the gap between groups of people where the data name groups, and the stereotype bias if it was measured.

    A classifier completes no sentences, so its gap between groups suffices.
    """
    gap = choice.comparison.group_gaps.get(name)
    if gap is None:
        return (_stereotype_bias(choice, name),)
    found = _with_interval("gap in error rates between groups", gap, choice.needs.max_bias_gap, "")
    found = found._replace(doubt=gap.missing_reason or gap.ci_missing_reason)
    return (found,) if choice.bias_gap(name) is None else (found, _stereotype_bias(choice, name))


def _stereotype_bias(choice: Choice, name: str) -> _Measured:
    """Measure how far the stereotype score is from one half; its interval may reach across it."""
    score = choice.comparison.suite_scores.get(name, {}).get("stereotype_score")
    lower = upper = None
    if score is not None and score.ci_low is not None and score.ci_high is not None:
        distances = abs(score.ci_low - 0.5), abs(score.ci_high - 0.5)
        lower = 0.0 if score.ci_low <= 0.5 <= score.ci_high else min(distances)
        upper = max(distances)
    return _Measured("stereotype bias (0 to 0.5)", choice.bias_gap(name), lower, upper, choice.needs.max_bias_gap, "")


def _harm(choice: Choice, name: str) -> _Measured:
    """Measure how often an answer was flagged as harmful; votes of earlier rounds flagged either answer of a pair."""
    own = choice.score("harm", name)
    score = own or choice.score("harm_in_pair", name)
    what = "harm rate" if own is not None else "harm rate (either answer of a pair)"
    return _with_interval(what, score, choice.needs.max_harm_rate, "")
