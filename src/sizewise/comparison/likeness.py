"""Whether two evaluations measured a metric in the same way, so that their difference is one of the models.

Three kinds of differences are told apart. How a candidate runs (its prompt form, its context) belongs to the candidate
and is compared. Precision, engine and constrained decoding may belong to it; they are compared with a caution. How an
item is scored belongs to the measurement: where it differs, there is no difference to claim.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from sizewise.errors import SizewiseError
from sizewise.metrics import Metric, find_metric
from sizewise.metrics.harness import PREFIX
from sizewise.records import Evaluation, Unlike

LETTER = "asked for a letter"
SCORED_KEYS = ("samples", "temperature", "failures", "outcome", "decisions", "first token", "choices")
"""Keys of a signature that say how items are scored."""
HARNESS_KEYS = ("lm-eval", "task", "shots", "failures")
RUN_KEYS = ("precision", "engine", "constrained")
"""Keys that may belong to the candidate: a difference is a caution."""


def parse_signature(signature: str) -> dict[str, str]:
    """Split a signature into its keys and values; a part without a key is its own key."""
    found = {}
    for part in filter(None, signature.split("|")):
        key, separator, value = part.partition(":")
        found[key.strip() if separator else part] = value.strip() if separator else ""
    return found


def unlike_pairs(metric: Metric, records: Mapping[str, Evaluation]) -> dict[tuple[str, str], Unlike]:
    """Find the pairs of candidates that a metric measured in different ways.

    Args:
        metric: the metric.
        records: candidate name -> evaluation.
    """
    scoring = {name: _scoring(metric, record) for name, record in records.items()}
    found = {}
    for left, right in combinations(records, 2):
        one, other = scoring[left], scoring[right]
        if not one or not other:  # without a score, nothing is known and nothing is claimed
            continue
        differing = [key for key in dict.fromkeys((*one, *other)) if one.get(key) != other.get(key)]
        if metric.needs == "likelihood" and not _same_window(records[left], records[right], metric.name):
            differing.append("window")
        if differing:
            found[left, right] = _unlike(metric, (left, right), differing, records, scoring)
    return found


def _scoring(metric: Metric, record: Evaluation) -> dict[str, str]:
    """Describe how a metric scored the items of an evaluation; empty if it has no value."""
    base = metric.name.partition("#")[0]
    score = record.scores.get(metric.name) or record.scores.get(base)
    if score is None or score.value is None:
        return {}
    parts = parse_signature(score.signature)
    own = len(find_metric(base).signature().split("|"))
    keys = HARNESS_KEYS if metric.name.startswith(PREFIX) else SCORED_KEYS
    found = {"metric": "|".join(score.signature.split("|")[:own])}
    if base in record.metric_versions:
        found["metric"] += f"|v{record.metric_versions[base]}"
    found |= {
        key: parts[key] for key in keys if key in parts and (key != "first token" or metric.needs == "likelihood")
    }
    if record.data.startswith("suite:") and metric.needs == "suite":
        written = next((part for part in parts if part.startswith(("written on", "closed book"))), "")
        found["scoring"] = LETTER if LETTER in parts else written or "log-likelihood"
    return found


def check_suite_method(left: tuple[str, Evaluation], right: tuple[str, Evaluation]) -> None:
    """Check that the choices of a suite were measured in one way: by log-likelihood, or by asking for them.

    Raises:
        SizewiseError: one model was scored and the other one asked.
    """
    asked = [any(LETTER in score.signature for score in record.scores.values()) for _, record in (left, right)]
    if left[1].data == right[1].data and asked[0] != asked[1]:
        ways = ["asked to choose" if one else "scored by log-likelihood" for one in asked]
        scored = right[1] if asked[0] else left[1]
        raise SizewiseError(
            f"The models were measured in different ways: {left[0]} was {ways[0]}, {right[0]} was {ways[1]}.",
            "evaluations that were measured alike",
            f"{_command(scored)} --by-prompting",
        )


def _window(record: Evaluation, name: str) -> tuple[int | None, int | None]:
    """Return the window in which texts were scored, and the model's context."""
    score = record.scores.get(name)
    window = parse_signature(score.signature).get("window") if score else None
    return int(window) if window and window.isdigit() else None, record.model.context


def _same_window(left: Evaluation, right: Evaluation, name: str) -> bool:
    """Check whether texts were scored in windows of one size, as far as the models' contexts allow it."""
    (one, its_context), (other, other_context) = _window(left, name), _window(right, name)
    if one is None or other is None or one == other:
        return True
    smaller, context = (one, its_context) if one < other else (other, other_context)
    return context is not None and smaller >= context


def _unlike(
    metric: Metric,
    pair: tuple[str, str],
    differing: Sequence[str],
    records: Mapping[str, Evaluation],
    scoring: Mapping[str, Mapping[str, str]],
) -> Unlike:
    def value(name: str, key: str) -> str:
        if key == "window":
            return str(_window(records[name], metric.name)[0])
        return scoring[name].get(key) or {"first token": "scored", "samples": "1", "temperature": "0"}.get(key, "none")

    reason = "; ".join(f"{key} is {value(pair[0], key)} and {value(pair[1], key)}" for key in differing)
    return Unlike(
        metric=metric.name,
        left=pair[0],
        right=pair[1],
        reason=reason,
        repair=_repair(pair, differing, records, scoring),
    )


def _repair(
    pair: tuple[str, str],
    differing: Sequence[str],
    records: Mapping[str, Evaluation],
    scoring: Mapping[str, Mapping[str, str]],
) -> str:
    """Return the command that measures one of the two like the other."""
    left, right = pair
    first, second = records[left], records[right]
    if "scoring" in differing:
        other = first if scoring[left].get("scoring") != LETTER else second
        return f"{_command(other)} --by-prompting"
    if "first token" in differing:
        served = first if scoring[left].get("first token") else second
        other = second if served is first else first
        return (
            f"sizewise serve {other.model.uri}, and evaluate http://127.0.0.1:8000/v1#NAME; or {served.model.uri} here"
        )
    if "samples" in differing or "temperature" in differing:
        sampled, other = (first, second) if first.sampling else (second, first)
        assert sampled.sampling is not None
        return f"{_command(other)} --samples {sampled.sampling.samples} --temperature {sampled.sampling.temperature:g}"
    if "failures" in differing:
        other = second if "failures" in scoring[left] else first
        return f"{_command(other)} --count-failures-as-wrong"
    return f"{_command(first)} and {_command(second)}"


def _command(record: Evaluation) -> str:
    if record.data.startswith("suite:"):
        chosen = f"--suite {record.data.removeprefix('suite:').rpartition(':')[0]}"
    else:
        chosen = f"--data {record.data} --metrics {','.join(record.metrics)}"
    return f"sizewise evaluate {record.model.uri} {chosen}" + (f" --limit {record.limit}" if record.limit else "")


def measuring_cautions(found: Sequence[Unlike], records: Mapping[str, Evaluation]) -> list[str]:
    """List the pairs that aren't compared, and what else differs between the candidates besides the models."""
    return [*_unlike_cautions(found), *_run_cautions(records)]


def _unlike_cautions(found: Sequence[Unlike]) -> list[str]:
    """Describe the pairs that aren't compared, once for each reason."""
    by_reason: dict[tuple[str, str, str, str], list[str]] = {}
    for one in found:
        by_reason.setdefault((one.left, one.right, one.reason, one.repair), []).append(one.metric)
    return [
        f"{left} and {right} aren't compared on {', '.join(metrics[:5])}{', ...' * (len(metrics) > 5)}, because they "
        f"were measured in different ways: {reason}; next: {repair}"
        for (left, right, reason, repair), metrics in by_reason.items()
    ]


def _run_cautions(records: Mapping[str, Evaluation]) -> Iterator[str]:
    """Describe differences in how candidates ran, which are part of what a comparison shows."""
    for key in RUN_KEYS:
        values: dict[str, list[str]] = {}
        for name, record in records.items():
            # Scores of the same evaluation ran alike; those by likelihood name precision and engine.
            signatures = [
                parse_signature(score.signature) for score in record.scores.values() if score.value is not None
            ]
            value = next((parts[key] for parts in signatures if key in parts), None)
            if key == "constrained":
                value = "yes" if record.constrained else "no"
            # Recorded answers have no engine here that one could have chosen differently.
            chosen = record.model.role == "candidate" and record.model.engine != "recorded"
            if value is not None and chosen:
                values.setdefault(value, []).append(name)
        if len(values) > 1:
            listed = "; ".join(
                f"{value}: {', '.join(names[:4])}{', ...' * (len(names) > 4)}" for value, names in values.items()
            )
            yield f"differences between candidates include those of their {key} ({listed})"
