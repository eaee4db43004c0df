"""Upgrades of records written by earlier versions: plain JSON data in, plain JSON data out.

Each upgrade is a pure function of one JSON object, which it recognizes by its keys. The same functions therefore work
for records, their row files and ledger entries, and upgrading twice changes nothing. An upgrade never depends on the
current record types, because those keep changing while written files don't.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

SCHEMA = 2
"""Schema number of newly written records."""

Object = dict[str, Any]

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
"""Schema 1 -> 2: names of metrics. A score's name may end in `@all` or `#group`."""

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
"""Schema 1 -> 2: keys of needs; study files that still use them get an error with the new name."""

_VERDICT_2 = {"why": "reasons", "why_not": "rejected", "sentence": "summary"}
_INTERVAL_2 = {"low": "ci_low", "high": "ci_high"}
_RANGE_2 = {"low": "lower", "high": "upper"}
_LICENSE_2 = {"licence": "license"}
# Keys that only one kind of object has -> its renamed keys.
_RENAMED_2: tuple[tuple[frozenset[str], Mapping[str, str]], ...] = tuple(
    (frozenset(marks), renamed)
    for marks, renamed in (
        (("metric", "n", "unit", "signature"), _INTERVAL_2 | {"missing": "missing_reason"}),
        (("metric", "left", "right", "value", "p_holm"), _INTERVAL_2),
        (("low", "expected", "high"), _RANGE_2),
        (("own", "paid", "machine_can"), _RANGE_2 | {"own": "self_hosted"}),
        (("local_only", "machine_usd_per_hour"), NEEDS_2),
        (
            ("comparison", "needs", "quality", "outcome"),
            _VERDICT_2 | {"would_change": "sensitivity", "best_share": "probability_best"},
        ),
        (
            ("candidates", "checkpoints", "evaluations", "outcome"),
            _VERDICT_2 | {"loads": "load_tests", "general": "language_nuance", "missing": "not_measured"},
        ),
        (("basis", "mean_loss", "pays_usd"), {"sentence": "summary"}),
        (("steps", "twice", "sentence"), {"sentence": "summary"}),
        (
            ("evaluations", "models", "differences", "rounds"),
            {
                "licence": "judge_validation",
                "loads": "load_tests",
                "crowds": "load_levels",
                "weighed": "suite_scores",
                "familiarity": "language_modeling_proxy",
                "best": "probability_best",
                "way": "method_version",
            },
        ),
        (("judge", "among_people", "consistent"), {"bar": "threshold", "licensed": "validated"}),
        (("users", "rate", "requests", "scores"), {"users": "concurrent_users"}),
        (
            ("url", "engine", "levels"),
            {
                "limit_first_token_s": "ttft_slo_s",
                "limit_token_s": "tpot_slo_s",
                "most_users": "max_concurrent_users",
            },
        ),
        (("item", "kind", "cluster", "stats"), {"clean": "uncontaminated"}),
        (("name", "domain", "splits", "leak"), {"leak": "contamination", "licences": "licenses"}),
        (
            ("ngram", "passages", "examples"),
            {f"clean_{one}": f"uncontaminated_{one}" for one in ("passages", "examples")},
        ),
        (("id", "title", "text", "origin", "licence"), _LICENSE_2),
        (("uri", "revision", "engine", "licence"), _LICENSE_2),
        (("uri", "maker", "weights", "licence"), _LICENSE_2),
        (("model", "to", "folder", "parity"), _LICENSE_2),
        (("reader", "prompts", "agreement"), {"least_agreement": "min_agreement", "most_bits": "max_bits"}),
        (
            ("start", "recipe", "data", "curve"),
            _LICENSE_2 | {"memorisation": "memorization", "groups": "representation", "trade": "attention_tradeoff"},
        ),
        (
            ("words", "counts", "balance"),
            {f"swap_gap_{when}": f"counterfactual_gap_{when}" for when in ("before", "after")},
        ),
        (("kind", "question", "raters", "bar"), {"bar": "min_agreement"}),
        (("win_rate", "even_length"), {"even_length": "length_controlled"}),
        (("threshold", "small_share", "likeness"), {"likeness": "similarity"}),
        (("source", "prompts", "vocabulary", "weights"), {"likeness": "similarity"}),
        (("id", "text", "prompt_tokens", "finish"), {"first_token_s": "ttft_s"}),
    )
)
# Fields whose keys are names of metrics, and fields that hold such names.
_BY_METRIC_2 = ("scores", "stats", "better", "before", "after")
_METRIC_NAMES_2 = ("metric", "metrics", "quality", "equal", "within", "outside")
_OUTCOMES_2 = {"not_decisive": "inconclusive"}


def upgrade(data: Any, schema: int) -> Any:
    """Upgrade JSON data from an earlier schema to the current one: a record, a row or a ledger entry.

    Args:
        data: as `json.loads` returns it.
        schema: number of the schema that it was written in.
    """
    for number in range(schema, SCHEMA):
        data = _walk(data, UPGRADES[number])
    return data


def renamed_metric(name: str) -> str:
    """Return the current name of a schema 1 score, which may end in `@all` or `#group`."""
    for mark in ("@", "#"):
        head, found, tail = name.partition(mark)
        if found:
            return renamed_metric(head) + mark + tail
    return METRICS_2.get(name, name)


def terms_of_the_field(old: Object) -> Object:
    """Upgrade one object from schema 1 to 2: rename fields, metrics and outcomes to the standard terms."""
    keys: dict[str, str] = {}
    for marks, renamed in _RENAMED_2:
        if marks <= old.keys():
            keys |= renamed
    new = {keys.get(key, key): value for key, value in old.items()}
    for field in _BY_METRIC_2:
        if isinstance(new.get(field), dict):
            new[field] = _by_metric(new[field])
    if isinstance(found := new.get("suite_scores"), dict):
        new["suite_scores"] = {candidate: _by_metric(scores) for candidate, scores in found.items()}
    if "differences" in new and isinstance(found := new.get("probability_best"), dict):
        new["probability_best"] = _by_metric(found)
    for field in _METRIC_NAMES_2:
        if isinstance(new.get(field), str):
            new[field] = renamed_metric(new[field])
        elif isinstance(new.get(field), list):
            new[field] = [renamed_metric(one) if isinstance(one, str) else one for one in new[field]]
    if "outcome" in new:
        new["outcome"] = _OUTCOMES_2.get(new["outcome"], new["outcome"])
    return new


def _by_metric(found: Object) -> Object:
    return {renamed_metric(key): value for key, value in found.items()}


UPGRADES: dict[int, Callable[[Object], Object]] = {1: terms_of_the_field}
"""Schema -> function that upgrades one object to the next schema."""


def _walk(data: Any, one_object: Callable[[Object], Object]) -> Any:
    if isinstance(data, dict):
        return one_object({key: _walk(value, one_object) for key, value in data.items()})
    if isinstance(data, list):
        return [_walk(value, one_object) for value in data]
    return data
