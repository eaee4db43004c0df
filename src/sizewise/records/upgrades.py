"""Upgrades of records written by earlier versions: plain JSON data in, plain JSON data out.

Each upgrade is a pure function of JSON data and the name of its type, and goes by the place of an object: names that
users give (candidates, groups) are never taken for fields. The tables here describe what was written, so an upgrade
never depends on today's record types, which go on changing. Upgrading what is already up to date changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

SCHEMA = 2
"""Number of the form in which records are written today."""

METRICS_2 = {
    "answers_per_s": "requests_per_s",
    "answer_tokens": "completion_tokens",
    "grounded": "lexical_grounding",
    "general": "language_nuance",
    "stereotype": "stereotype_score",
    "sense": "language_modeling_score",
    "right_referent": "coreference_accuracy",
    "referent_gap": "coreference_gap",
    "bold_tone": "bold_sentiment",
    "swap_likelihood": "counterfactual_likelihood",
    "swap_quality": "counterfactual_quality",
    "swap_refusal": "counterfactual_refusal",
    "swap_tone": "counterfactual_sentiment",
    "first_token_s_p50": "p50_ttft_s",
    "first_token_s_p95": "p95_ttft_s",
    "token_s_p50": "p50_tpot_s",
    "token_s_p95": "p95_tpot_s",
    "gap_s_p95": "p95_itl_s",
    "answer_s_p50": "p50_latency_s",
    "answer_s_p95": "p95_latency_s",
}
"""Schema 1 -> 2: names of metrics. A score's name may go on with `@all` or `#group`."""

NEEDS_2 = {
    "least_quality": "min_quality",
    "greatest_latency_s": "max_latency_s",
    "users": "concurrent_users",
    "greatest_p95_s": "max_latency_p95_s",
    "greatest_memory_gb": "max_memory_gb",
    "greatest_cost_usd_per_1000": "max_cost_usd_per_1000",
    "one_off_usd": "setup_cost_usd",
    "months": "amortization_months",
    "greatest_bias_gap": "max_bias_gap",
    "greatest_harm_rate": "max_harm_rate",
    "refused_licences": "excluded_licenses",
    "least_context": "min_context_tokens",
}
"""Schema 1 -> 2: keys of needs; study files that still use them are refused with the new name."""

_VERDICT_2 = {"why": "reasons", "why_not": "rejected", "sentence": "summary"}
_INTERVAL_2 = {"low": "ci_low", "high": "ci_high"}
_RANGE_2 = {"low": "lower", "high": "upper"}
_LICENSE_2 = {"licence": "license"}
_SIMILARITY_2 = {"likeness": "similarity"}
# Type of schema 1 -> its renamed fields.
_RENAMED_2: dict[str, dict[str, str]] = {
    "Score": _INTERVAL_2 | {"missing": "missing_reason"},
    "Difference": _INTERVAL_2,
    "Range": _RANGE_2,
    "BreakEven": _RANGE_2 | {"own": "self_hosted"},
    "Needs": NEEDS_2,
    "Recommendation": _VERDICT_2 | {"would_change": "sensitivity", "best_share": "probability_best"},
    "Study": _VERDICT_2 | {"loads": "load_tests", "general": "language_nuance", "missing": "not_measured"},
    "LearningCurve": {"sentence": "summary"},
    "Comparison": {
        "licence": "judge_validation",
        "loads": "load_tests",
        "crowds": "load_levels",
        "weighed": "suite_scores",
        "familiarity": "language_modeling_proxy",
        "best": "probability_best",
        "way": "method_version",
    },
    "Licence": {"bar": "threshold", "licensed": "validated"},
    "LoadLevel": {"users": "concurrent_users"},
    "Load": {
        "limit_first_token_s": "ttft_slo_s",
        "limit_token_s": "tpot_slo_s",
        "most_users": "max_concurrent_users",
    },
    "ItemRow": {"clean": "uncontaminated"},
    "Dataset": {"leak": "contamination", "licences": "licenses"},
    "LeakLedger": {f"clean_{one}": f"uncontaminated_{one}" for one in ("passages", "examples")},
    "Document": _LICENSE_2,
    "ModelDescription": _LICENSE_2,
    "Export": _LICENSE_2,
    "Parity": {"least_agreement": "min_agreement", "most_bits": "max_bits"},
    "Checkpoint": _LICENSE_2
    | {"memorisation": "memorization", "groups": "representation", "trade": "attention_tradeoff"},
    "GroupShares": {f"swap_gap_{when}": f"counterfactual_gap_{when}" for when in ("before", "after")},
    "JudgeRound": {"bar": "min_agreement"},
    "Calibration": _SIMILARITY_2,
    "Completion": {"first_token_s": "ttft_s"},
}
# Type of schema 1 -> field that holds other objects -> their type; `*` stands for keys that are names of any kind
# (candidates, metrics, groups), which are never taken for fields, and `[]` for the items of a list.
_INSIDE_1: dict[str, dict[str, str]] = {
    "Recommendation": {"needs": "Needs", "costs[]": "CostLine", "break_even[]": "BreakEven"},
    "CostLine": {"usd_per_1000": "Range", "usd_per_month": "Range", "kwh_per_1000": "Range"},
    "Evaluation": {"model": "ModelDescription", "scores*": "Score", "prompting": "Prompting"},
    "Comparison": {
        "models*": "ModelDescription",
        "scores**": "Score",
        "differences[]": "Difference",
        "licence": "Licence",
        "crowds*[]": "LoadLevel",
        "weighed**": "Score",
        "answered*": "Score",
    },
    "Licence": {"agreement": "Score", "among_people": "Score", "consistent": "Score", "longer": "Score"},
    "Load": {"levels[]": "LoadLevel"},
    "LoadLevel": {"scores*": "Score"},
    "Dataset": {"leak": "LeakLedger"},
    "Export": {"parity[]": "Parity"},
    "Parity": {"agreement": "Score", "bits": "Score"},
    "Checkpoint": {"estimate": "Estimate", "memorisation": "Memorisation", "groups": "GroupShares"},
    "Estimate": {"memory_bytes": "Range", "seconds": "Range", "energy_wh": "Range", "usd": "Range"},
    "Memorisation": {"membership_auc": "Score", "membership_tpr": "Score"},
    "LearningCurve": {"twice": "Range"},
    "Policy": {"calibration": "Calibration"},
    "Calibration": {
        **dict.fromkeys(("small_quality", "large_quality", "oracle_quality", "apgr", "cpt50", "cpt80"), "Score"),
        "calibration_error": "Score",
        "after": "AfterAnswer",
    },
    "AfterAnswer": {"apgr": "Score", "calibration_error": "Score"},
    "Plan": {"estimate": "Estimate"},
}
# Type of schema 1 -> fields whose keys (`*`; `**`: in each of its values) or values are names of metrics.
_METRICS_1: dict[str, tuple[str, ...]] = {
    "Score": ("metric",),
    "Difference": ("metric",),
    "Prompting": ("metric",),
    "Needs": ("quality",),
    "Recommendation": ("quality",),
    "Evaluation": ("metrics", "scores*"),
    "LoadLevel": ("scores*",),
    "Comparison": ("scores*", "better*", "best*", "weighed**"),
    "ItemRow": ("stats*",),
}
# Today's name of a type -> its name in schema 1, where that was another.
_TYPES_1 = {
    "LoadTest": "Load",
    "JudgeValidation": "Licence",
    "ContaminationReport": "LeakLedger",
    "ContaminationEntry": "LeakEntry",
    "Memorization": "Memorisation",
    "Representation": "GroupShares",
}
_OUTCOMES_2 = {"not_decisive": "inconclusive"}
_PLACE = re.compile(r"(\w+?)((?:\*|\[\])*)")


def upgrade(data: Any, schema: object, record_type: str) -> Any:
    """Bring JSON data of an earlier schema to today's: a record, a row beside it, or an entry of a ledger.

    Args:
        data: as `json.loads` returns it.
        schema: number of the schema that it was written in.
        record_type: today's name of its type, for example `Evaluation`.

    Raises:
        ValueError: the schema is no positive whole number, or the data has not the form of its type.
    """
    if isinstance(schema, bool) or not isinstance(schema, int) or schema < 1:
        raise ValueError(f"the schema is {schema!r}, not a positive whole number")
    try:
        for number in range(schema, SCHEMA):
            data = UPGRADES[number](data, record_type)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"the data has not the form of schema {schema}: {error}") from error
    return data


def terms_of_the_field(data: Any, record_type: str) -> Any:
    """Upgrade an object of schema 1 to 2: fields, metrics and outcomes take the terms of the field."""
    return _upgraded(data, _TYPES_1.get(record_type, record_type))


def _upgraded(data: Any, name: str) -> Any:
    """Upgrade an object of a type of schema 1 and all objects in it; a value that is absent stays absent."""
    if not isinstance(data, dict):
        return data
    new = dict(data)
    for place, inside in _INSIDE_1.get(name, {}).items():
        field, depth = _parts(place)
        if field in new:
            new[field] = _each(new[field], depth, partial(_upgraded, name=inside))
    for place in _METRICS_1.get(name, ()):
        field, depth = _parts(place)
        if field in new:
            new[field] = _renamed_metrics(new[field], len(depth))
    if isinstance(new.get("outcome"), str) and name in ("Study", "Recommendation"):
        new["outcome"] = _OUTCOMES_2.get(new["outcome"], new["outcome"])
    renamed = _RENAMED_2.get(name, {})
    return {renamed.get(key, key): value for key, value in new.items()}


def _parts(place: str) -> tuple[str, list[str]]:
    """Split `scores**` into the field and what to go through: `scores`, [`*`, `*`]."""
    match = _PLACE.fullmatch(place)
    assert match is not None  # the tables above
    return match[1], re.findall(r"\*|\[\]", match[2])


def _each(value: Any, depth: list[str], function: Callable[[Any], Any]) -> Any:
    if not depth:
        return function(value)
    if depth[0] == "*" and isinstance(value, dict):
        return {key: _each(one, depth[1:], function) for key, one in value.items()}
    if depth[0] == "[]" and isinstance(value, list):
        return [_each(one, depth[1:], function) for one in value]
    return value


def _renamed_metrics(value: Any, depth: int) -> Any:
    """Rename a metric, a list of them, or the keys of a map; `depth` counts the maps, the innermost has metrics."""
    if isinstance(value, str):
        return renamed_metric(value)
    if isinstance(value, list):
        return [_renamed_metrics(one, 0) for one in value]
    if isinstance(value, dict) and depth == 1:
        return {renamed_metric(key): one for key, one in value.items()}
    if isinstance(value, dict) and depth > 1:
        return {key: _renamed_metrics(one, depth - 1) for key, one in value.items()}
    return value


def renamed_metric(name: str) -> str:
    """Return today's name of a score of schema 1, which may go on with `@all` or `#group`."""
    for mark in ("@", "#"):
        head, found, tail = name.partition(mark)
        if found:
            return renamed_metric(head) + mark + tail
    return METRICS_2.get(name, name)


UPGRADES: dict[int, Callable[[Any, str], Any]] = {1: terms_of_the_field}
"""Schema -> the function that turns an object of it into one of the next."""
