"""Recomputes the numbers of stored records from the stored items, without a model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from sizewise.choice import decide
from sizewise.comparison import measures_of
from sizewise.comparison.comparing import COMPARISON_VERSION
from sizewise.comparison.validity import measure_claims
from sizewise.comparison.voting import VOTES_FILE, voted
from sizewise.evaluation.counterfactual_pairs import GAPS, gap_of_groups
from sizewise.evaluation.rescoring import rescore, rescore_passes
from sizewise.evaluation.swapped_decisions import gap_score
from sizewise.evaluation.swapping import attributes
from sizewise.judging import tasks_of
from sizewise.metrics import METRICS, CannotMeasure, Metric, ReferenceSet, find_metric, total
from sizewise.metrics.base import SCORING_VERSION
from sizewise.records import (
    Comparison,
    Difference,
    Evaluation,
    ItemRow,
    JudgeRound,
    JudgeValidation,
    LoadTest,
    Recommendation,
    Recomputed,
    Record,
    Score,
    Study,
    Vote,
)
from sizewise.store import Store, sha256_of

TOLERANCE = 1e-9
GAP = "counterfactual_gap#"


def recompute(store: Store, records: dict[str, str]) -> Iterator[Recomputed]:
    """Recompute the numbers of records.

    Args:
        store: where the records are.
        records: id -> kind.
    """
    for record_id, kind in records.items():
        if kind == "evaluation":
            yield _recompute_scores(store, record_id)
        elif kind == "comparison":
            yield _recompute_differences(store, record_id)
        elif kind == "recommendation":
            before = store.read(Recommendation, record_id)
            after = decide(store.read(Comparison, before.comparison), before.comparison, before.needs)
            yield _compare_verdicts(record_id, before, after)
        elif kind == "study":
            study = store.read(Study, record_id)
            verdict = store.read(Recommendation, study.recommendation)
            shared = ["outcome", "pick", "decisive", "summary", "rejected"]
            yield _compare_fields("study", record_id, study, verdict, shared)


def _recompute_scores(store: Store, record_id: str) -> Recomputed:
    """Recompute the items' statistics from their answers, and the scores from the statistics.

    A score covers the uncontaminated items, all items (`@all`), or those of a group (`#group`).
    """
    measured = store.read(Evaluation, record_id)
    folder = store.folder("evaluation", record_id)
    rows = store.read_rows(folder, "items.jsonl", ItemRow)
    differing: list[str] = []
    if measured.items_sha256 and sha256_of(folder / "items.jsonl") != measured.items_sha256:
        differing.append("items.jsonl: its SHA-256 isn't the one in the record")
    if len(rows) != measured.items:
        differing.append(f"items: {measured.items}, in items.jsonl {len(rows)}")
    again = rescore(store, measured, rows)
    passes = [name for name in measured.scores if "@" in name and not name.endswith("@all")]
    differing += [*again.differing, *rescore_passes(rows, passes)]
    not_computed, count = list(again.unknown), 0
    for name, score in measured.scores.items():
        if score.value is None:
            continue
        recomputed = _score_again(name, rows, measured)
        if recomputed is None:
            not_computed.append(name)
            continue
        count += 1
        if change := _first_change(score, recomputed, measured.method_version == SCORING_VERSION):
            differing.append(f"{name}: {change}")
    return Recomputed(
        kind="evaluation",
        id=record_id,
        numbers=count,
        differing=tuple(differing),
        not_computed=tuple(not_computed),
        from_answers=again.measured,
    )


def _score_again(name: str, rows: Sequence[ItemRow], measured: Evaluation) -> Score | None:
    """Compute a score from the items' statistics; None if they don't hold what it needs."""
    if "#" in name:
        return _group_score(name, rows)
    metric_name = name.removesuffix("@all")
    if metric_name not in METRICS and not any(metric_name in row.stats for row in rows):
        return None
    part = rows if name.endswith("@all") else [row for row in rows if row.uncontaminated]
    return total(_prepared(metric_name, rows, measured), part, name=name, signature="")


def _group_score(name: str, rows: Sequence[ItemRow]) -> Score | None:
    """Compute the score of a group, whose items name the group or hold its own statistics."""
    base, _, group = name.partition("#")
    if name.startswith(GAP):
        attribute = next((one for one in attributes() if one.name == group), None)
        prefix = f"counterfactual_probability#{group}: "
        part = [row for row in rows if any(key.startswith(prefix) for key in row.stats)]
        return gap_score(attribute, part, name, "") if attribute and part else None
    if base.endswith("_gap") and base.removesuffix("_gap") in GAPS:
        attribute = next((one for one in attributes() if one.name == group), None)
        return gap_of_groups(base.removesuffix("_gap"), attribute, rows, "") if attribute else None
    metric = find_metric(base)
    part = [row.model_copy(update={"stats": {base: row.stats[name]}}) for row in rows if name in row.stats]
    part = part or [row for row in rows if row.group == group and base in row.stats]
    return total(metric, part, name=name, signature="") if part else None


def _prepared(name: str, rows: Sequence[ItemRow], measured: Evaluation) -> Metric:
    metric = find_metric(name)
    references = [row.references for row in rows if row.kind == "example" and row.references]
    if metric.needs != "answers" or not references:
        return metric
    try:
        return metric.prepared(ReferenceSet(references, labels=measured.labels))
    except CannotMeasure:
        return metric


def _first_change(before: Score, after: Score, same_method: bool) -> str:
    """Describe the first field in which two scores differ; empty if they don't."""
    for field in ("value", "n", *(("ci_low", "ci_high") if same_method else ())):
        recorded, recomputed = getattr(before, field), getattr(after, field)
        if recorded is None or recomputed is None:
            if recorded is not recomputed:
                return f"{field} {recorded}, recomputed {recomputed}"
        elif not math.isclose(recorded, recomputed, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            return f"{field} {recorded!r}, recomputed {recomputed!r}"
    return ""


def _recompute_differences(store: Store, record_id: str) -> Recomputed:
    before = store.read(Comparison, record_id)
    measured = {name: store.read(Evaluation, one) for name, one in before.evaluations.items()}
    classical_tests = any(difference.other_p for difference in before.differences)
    claims = measure_claims(store, measured, before.evaluations, before.seed, classical_tests)
    same_method = before.method_version == COMPARISON_VERSION
    # Earlier methods added no measures of their own.
    found = [one for one in claims.differences if same_method or one.metric not in claims.extra]
    by_votes: dict[str, dict[str, Score]] = {}
    differing = []
    if before.votes:
        votes = store.read_rows(store.folder("comparison", record_id), VOTES_FILE, Vote)
        again = voted(
            store.read(JudgeRound, before.votes), tasks_of(before.votes, store), votes, before.models,
            before.simulated_votes, before.votes_closed,
        )  # fmt: skip
        by_votes = again.scores
        found += again.differences
        if same_method and _without_reason(again.judge_validation) != _without_reason(before.judge_validation):
            differing.append("judge validation: differs from the one recomputed from the votes")
    differing += _changed_differences(before, found)
    differing += _changed_copies(store, before)
    for metric, row in before.scores.items():
        for name, score in row.items():
            if metric in by_votes:
                changed = _vote_score_changed(before, score, by_votes[metric].get(name))
            elif metric in claims.scores:  # added by the comparison
                changed = same_method and claims.scores[metric].get(name) != score
            else:
                changed = measured[name].scores.get(metric) != score
            if changed:
                differing.append(f"{metric} of {name}: differs from its evaluation")
    return Recomputed(kind="comparison", id=record_id, numbers=7 * len(before.differences), differing=tuple(differing))


def _vote_score_changed(compared: Comparison, before: Score, after: Score | None) -> bool:
    """Check whether a score of votes differs: in all fields, or only in value and n if another method made it."""
    if compared.method_version == COMPARISON_VERSION or after is None or before.value is None or after.value is None:
        return before != after
    return before.n != after.n or not math.isclose(before.value, after.value, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _without_reason(found: JudgeValidation | None) -> JudgeValidation | None:
    """Drop the reason, whose wording may differ between versions; its numbers are separate fields."""
    return found and found.model_copy(update={"reason": ""})


def _changed_differences(compared: Comparison, found: Sequence[Difference]) -> Iterator[str]:
    """Describe the recorded differences that do not match the recomputed ones."""
    after = {(difference.metric, difference.left, difference.right): difference for difference in found}
    same_method = compared.method_version == COMPARISON_VERSION
    tests = ("ci_low", "ci_high", "p", "p_adjusted", "better") if same_method else ()
    for before in compared.differences:
        now = after.pop((before.metric, before.left, before.right), None)
        if now is None and not same_method:
            continue  # earlier methods compared pairs that aren't claimed to differ, such as two baselines
        for field in ("value", "n", *tests):
            recorded, recomputed = getattr(before, field), getattr(now, field, None)
            equal = (
                math.isclose(recorded, recomputed, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
                if isinstance(recorded, float) and isinstance(recomputed, float)
                else recorded == recomputed
            )
            if not equal:
                yield f"{before.metric}, {before.left} vs {before.right}: {field} {recorded}, recomputed {recomputed}"
    yield from (f"{' '.join(key)}: not in the record" for key in after)


def _changed_copies(store: Store, compared: Comparison) -> Iterator[str]:
    """Describe the load tests and bias scores in a comparison that don't match their own records."""
    for name, load_test in compared.load_tests.items():
        if store.read(LoadTest, load_test).levels != compared.load_levels.get(name):
            yield f"load test of {name}: differs from {load_test}"
    for name, suite in compared.suites.items():
        if measures_of(store.read(Evaluation, suite)) != compared.suite_scores.get(name):
            yield f"bias test of {name}: differs from {suite}"


def _compare_verdicts(record_id: str, before: Recommendation, after: Recommendation) -> Recomputed:
    """Compare a verdict with the recomputed one, if the same version of the rules made it."""
    if before.method_version == after.method_version:
        return _compare_fields("recommendation", record_id, before, after, list(Recommendation.model_fields))
    rules = f"verdict: made by version {before.method_version} of the rules, not {after.method_version}"
    return Recomputed(kind="recommendation", id=record_id, numbers=0, not_computed=(rules,))


def _compare_fields(kind: str, record_id: str, before: Record, after: Record, names: Sequence[str]) -> Recomputed:
    differing = [
        f"{name}: {getattr(before, name)!r}, recomputed {getattr(after, name)!r}"
        for name in names
        if getattr(before, name) != getattr(after, name)
    ]
    return Recomputed(kind=kind, id=record_id, numbers=len(names), differing=tuple(differing))
