"""compare(): paired differences between evaluations of the same data."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from sizewise.comparison.claims import group_metrics
from sizewise.comparison.decisions import error_gap, read_groups, read_items
from sizewise.comparison.likeness import measuring_cautions
from sizewise.comparison.naming import check_same, name_evaluations
from sizewise.comparison.tables import ItemTable
from sizewise.comparison.validity import Claims, measure_claims
from sizewise.errors import UsageError
from sizewise.metrics import find_metric
from sizewise.metrics.base import Better
from sizewise.metrics.proportion import proportion_score
from sizewise.records import Comparison, Dataset, Evaluation, LoadTest, Score, fingerprint
from sizewise.store import Saved, Store

SAME_ANSWER = ("accuracy", "exact_match")
"""Metrics by which an answer that equals its reference is known."""
MIN_OWN = 20
"""Answers from which on it is told that all of them equal their references."""
COMPARISON_VERSION = 8
"""Incremented whenever a change alters the result for the same evaluations; part of a comparison's id."""
# Whether higher or lower is better, for scores that aren't item metrics.
FACTS_BETTER = {
    "latency_s": "lower",
    "requests_per_s": "higher",
    "parameters": "lower",
    "memory_bytes": "lower",
    "disk_bytes": "lower",
    "usd_per_1000": "lower",
    "prompt_tokens": "lower",
    "completion_tokens": "lower",
}


def compare(
    evaluations: Sequence[str | Saved[Evaluation]] | Mapping[str, str | Saved[Evaluation]],
    *,
    store: Store | None = None,
    load_tests: Mapping[str, str] | None = None,
    suites: Mapping[str, str] | None = None,
    partial: Collection[str] = (),
    seed: int = 0,
    classical_tests: bool = False,
    grades: str | Path | None = None,
) -> Saved[Comparison]:
    """Compare evaluations of the same data, pair by pair over the same source documents.

    All pairs on all quality metrics are one family of claims with an error rate of 5%; two baselines are no pair.

    Args:
        evaluations: evaluations or their ids, or candidate name -> evaluation.
        store: where records live; by default SIZEWISE_HOME.
        load_tests: candidate name -> load test id.
        suites: candidate name -> id of an evaluation on a bias suite.
        partial: names of candidates that were evaluated on a random part of the items, under a smaller limit.
        seed: seed of the random subsets of documents.
        classical_tests: also compute the p-values that papers report, which take items for independent.
        grades: a grade sheet that people filled in, see `write_grade_sheet`.

    Raises:
        UsageError: there are fewer than two evaluations, or a load test or suite of an unknown candidate.
        SizewiseError: the evaluations don't cover the same items, or every metric was measured in different ways.
    """
    named = name_evaluations(evaluations, store := store or Store())
    load_tests, suites = _known(load_tests, named), _known(suites, named)
    records = {name: store.read(Evaluation, record_id) for name, record_id in named.items()}
    first = check_same(records, partial)
    found = measure_claims(store, records, named, seed, classical_tests, grades)
    data, biased = _dataset_of(first, store), {name: store.read(Evaluation, suite) for name, suite in suites.items()}
    loaded = {name: store.read(LoadTest, record_id) for name, record_id in load_tests.items()}
    comparison = Comparison(
        data=first.data,
        evaluations=named,
        models={name: one.model for name, one in records.items()},
        scores=_scores_by_metric(records) | found.scores,
        better=_directions(records) | {name: find_metric(name).better for name in found.extra} | FACTS_BETTER,
        differences=found.differences,
        spread=found.spread,
        unlike=tuple(found.unlike),
        language_modeling_proxy=data is not None and data.derived,
        load_tests=load_tests,
        load_levels={name: test.levels for name, test in loaded.items()},
        suites=suites,
        suite_scores={name: measures_of(record) for name, record in biased.items()},
        group_gaps=_group_gaps(records, named, store, seed),
        answered=_answered(found.tables),
        seed=seed,
        method_version=COMPARISON_VERSION,
        notes=(*found.notes, *_engine_notes(loaded)),
        cautions=_cautions(data, _incomplete(records, found.tables, biased), _likely_reasons(found, records)),
        partial=tuple(name for name in named if name in partial),
        asked=_asked(records, found.tables, partial),
    )
    return store.write(_comparison_id(comparison, classical_tests, found.graded), comparison)


def _dataset_of(evaluation: Evaluation, store: Store) -> Dataset | None:
    return None if evaluation.data.startswith("suite:") else store.read(Dataset, evaluation.data)


def _cautions(data: Dataset | None, *found: Sequence[str]) -> tuple[str, ...]:
    return (*(data.cautions if data else ()), *(caution for part in found for caution in part))


def _directions(records: Mapping[str, Evaluation]) -> dict[str, Better]:
    """Return whether higher or lower values of each metric are better, also of the scores of groups."""
    metrics = map(find_metric, next(iter(records.values())).metrics)
    return {metric.name: metric.better for metric in (*group_metrics(records), *metrics)}


def _asked(
    records: Mapping[str, Evaluation], tables: Mapping[str, ItemTable], partial: Collection[str]
) -> dict[str, dict[str, int]]:
    """Count, for candidates with fewer items, those that a metric measured of anyone: metric -> candidate -> items."""
    found: dict[str, dict[str, int]] = {}
    for metric in next(iter(records.values())).metrics if partial else ():
        measurable: set[str] = set()
        for table in tables.values():
            rows = table.measured(metric, table.rows_of(list(table.items)))
            measurable |= {item for item, row in zip(table.items, rows, strict=True) if row >= 0}
        found[metric] = {name: len(measurable & tables[name].items.keys()) for name in tables if name in partial}
    return found


def _comparison_id(comparison: Comparison, classical_tests: bool, graded: str) -> str:
    """Derive the id. Order matters: it determines the sides of differences, and which evaluation is the old one.

    Args:
        comparison: the comparison.
        classical_tests: whether it has the p-values of classical tests.
        graded: fingerprint of the grade sheet; empty without one.
    """
    identity: list[object] = [COMPARISON_VERSION, list(comparison.evaluations.items()), comparison.seed]
    identity += ["classical"] if classical_tests else []
    identity += [comparison.load_tests, comparison.suites] if comparison.load_tests or comparison.suites else []
    identity += [["grades", graded]] if graded else []
    identity += [["partial", *comparison.partial]] if comparison.partial else []
    return f"comparison-{fingerprint(identity)}"


def _known(given: Mapping[str, str] | None, named: Mapping[str, str]) -> dict[str, str]:
    """Check that records about candidates belong to candidates of the comparison."""
    unknown = next((name for name in given or {} if name not in named), None)
    if unknown is not None:
        raise UsageError(f"Unknown candidate '{unknown}'.", ", ".join(named), "sizewise compare --help")
    return dict(given or {})


def _scores_by_metric(records: Mapping[str, Evaluation]) -> dict[str, dict[str, Score]]:
    scores: dict[str, dict[str, Score]] = {}
    for name, record in records.items():
        for metric, score in record.scores.items():
            scores.setdefault(metric, {})[name] = score
    return scores


def measures_of(evaluation: Evaluation) -> dict[str, Score]:
    """Return the scores of a suite, without those of its groups."""
    return {name: evaluation.scores[name] for name in evaluation.metrics if name in evaluation.scores}


def _group_gaps(
    records: Mapping[str, Evaluation], named: Mapping[str, str], store: Store, seed: int
) -> dict[str, Score]:
    """Compute the largest gap in an error rate between groups of people, where the data name groups."""
    people = read_groups(store, next(iter(records.values())).data, ())
    if not people.groups:
        return {}
    found = {}
    for name, record_id in named.items():
        question = records[name].model.question
        if question is not None and question.type == "multi":
            continue  # a rate needs one decision for each case
        gap = error_gap(read_items(store, record_id), people, seed)
        if gap is not None:
            found[name] = gap
    return found


def _answered(tables: Mapping[str, ItemTable]) -> dict[str, Score]:
    """Compute the share of each candidate's answers that contain text.

    Failed requests don't count as answers; if all failed, all answers count as empty.
    """
    found = {}
    for name, table in tables.items():
        counts = table.answers
        asked = counts.answered or counts.requested
        if asked:
            found[name] = proportion_score("answered", counts.with_text, asked, signature="answers with text|wilson")
    return found


def _silent(tables: Mapping[str, ItemTable]) -> list[str]:
    """List the candidates that never answer."""
    return [
        f"{name} never answers: all of its {score.n} answers are empty"
        for name, score in _answered(tables).items()
        if score.value == 0
    ]


def _incomplete(
    records: Mapping[str, Evaluation], tables: Mapping[str, ItemTable], suites: Mapping[str, Evaluation]
) -> list[str]:
    """List the candidates with missing, empty or truncated answers, whose scores are less reliable."""
    notes = _silent(tables)
    for name, table in tables.items():
        counts = table.answers
        if counts.truncated:
            notes.append(f"{counts.truncated} of {counts.answered} answers of {name} were cut off at max_tokens")
        failed, unanswered = counts.failed, records[name].unanswered
        if failed and not unanswered:
            notes.append(f"{failed} item{'s' * (failed > 1)} of {name} failed with an error; see its items.jsonl")
        if unanswered:
            notes.append(
                f"{name} is incomplete: {unanswered} requests failed and aren't scored; run its evaluation again"
            )
    notes += [
        f"the bias test of {name} is incomplete: {suite.unanswered} requests failed and aren't scored; run it again"
        for name, suite in suites.items()
        if suite.unanswered
    ]
    return notes


def _likely_reasons(found: Claims, records: Mapping[str, Evaluation]) -> list[str]:
    """List what the scores may show besides quality: different ways of measuring, or a candidate's own references."""
    return [*measuring_cautions(found.unlike, records), *_own_references(records, found.tables)]


def _own_references(records: Mapping[str, Evaluation], tables: Mapping[str, ItemTable]) -> list[str]:
    """List recorded candidates all of whose answers equal the references, which are then likely their own answers."""
    found = []
    for name, record in records.items():
        metric = next((one for one in SAME_ANSWER if one in record.metrics), None)
        if record.model.engine != "recorded" or metric is None:
            continue
        column = tables[name].column(metric)
        known = column[~np.isnan(column[:, 0])] if len(column) else column
        if len(known) >= MIN_OWN and bool((known[:, 0] == known[:, 1]).all()):
            found.append(
                f"every recorded answer of {name} equals its reference; if the references are its own answers, the "
                "scores show agreement with it, not quality"
            )
    return found


def _engine_notes(load_tests: Mapping[str, LoadTest]) -> list[str]:
    """Warn if load tests ran on different engines, because the speeds then reflect more than the models."""
    engines = {name: test.engine for name, test in load_tests.items()}
    if len(set(engines.values())) < 2:
        return []
    listed = "; ".join(f"{name}: {engine}" for name, engine in engines.items())
    return [f"load tests ran on different engines, so speed differences don't come from the models alone: {listed}"]
