"""compare(): paired differences between evaluations of the same data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import isfinite
from typing import NamedTuple

import numpy as np

from sizewise.errors import SizewiseError, UsageError
from sizewise.metrics import Metric, find_metric, stats_array
from sizewise.metrics.proportion import proportion_score
from sizewise.records import Comparison, Dataset, Difference, Evaluation, ItemRow, LoadTest, Score, fingerprint
from sizewise.stats import MIN_CLUSTERS, detectable_difference, holm, needed_for
from sizewise.stats.bootstrap import FloatArray, Interval, best_shares, paired_differences
from sizewise.stats.classical_tests import bootstrap_p, mcnemar_p, randomisation_p
from sizewise.store import Saved, Store

ROUNDS = 10_000
BEST_ROUNDS = 2_000
WAY = 2
"""Raised when the numbers of a comparison of the same evaluations change; part of its id."""
LEVEL = 0.05
SACREBLEU_METRICS = ("bleu", "chrf", "ter")
# Which way is better, for scores that are not metrics of items.
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
    evaluations: Sequence[str] | Mapping[str, str],
    *,
    store: Store | None = None,
    load_tests: Mapping[str, str] | None = None,
    suites: Mapping[str, str] | None = None,
    seed: int = 0,
    rounds: int = ROUNDS,
) -> Saved[Comparison]:
    """Compare evaluations of the same data, pair by pair.

    Source documents are resampled, both sides with the same weights; Holm's correction runs over all pairs
    of one metric.

    Args:
        evaluations: evaluation ids, or candidate name -> evaluation id.
        store: where records live; by default SIZEWISE_HOME.
        load_tests: candidate name -> id of a load, which says how it does under many users.
        suites: candidate name -> id of an evaluation on a suite (of bias), whose measures then stand beside.
        seed: seed of the resampling.
        rounds: bootstrap rounds.

    Raises:
        UsageError: fewer than two evaluations, or a load or suite of a candidate that is not among them.
        SizewiseError: the evaluations are not of the same items.
    """
    store = store or Store()
    named = dict(evaluations) if isinstance(evaluations, Mapping) else _named(list(evaluations), store)
    if len(named) < 2:
        raise UsageError(f"{len(named)} evaluation cannot be compared.", "two or more", "sizewise compare ID ID")
    records = {name: store.read(Evaluation, record_id) for name, record_id in named.items()}
    _check_same(records)
    rows = {
        name: store.read_rows(store.folder("evaluation", record_id), "items.jsonl", ItemRow)
        for name, record_id in named.items()
    }
    first = next(iter(records.values()))
    found, notes = differences(records, rows, rounds, seed)
    best = _best(records, rows, seed)
    scores: dict[str, dict[str, Score]] = {}
    for name, measured in records.items():
        for metric, score in measured.scores.items():
            scores.setdefault(metric, {})[name] = score
    load_tests, suites = dict(load_tests or {}), dict(suites or {})
    strange = next((name for name in (*load_tests, *suites) if name not in named), None)
    if strange is not None:
        raise UsageError(f"There is no candidate '{strange}'.", ", ".join(named), "")
    loaded = {name: store.read(LoadTest, one) for name, one in load_tests.items()}
    answered = _answered(rows)
    notes += _as_deployed(loaded)
    comparison = Comparison(
        data=first.data,
        evaluations=named,
        models={name: measured.model for name, measured in records.items()},
        scores=scores,
        better={m: find_metric(m).better for m in first.metrics} | FACTS_BETTER,
        differences=tuple(found),
        language_modeling_proxy=not first.data.startswith("suite:") and store.read(Dataset, first.data).derived,
        load_tests=load_tests,
        load_levels={name: one.levels for name, one in loaded.items()},
        suites=suites,
        suite_scores={name: measures_of(store.read(Evaluation, one)) for name, one in suites.items()},
        answered=answered,
        probability_best=best,
        rounds=rounds,
        seed=seed,
        method_version=WAY,
        notes=tuple(notes),
        cautions=tuple(_silent(answered) + _unfinished(records, rows)),
    )
    # The order counts: it says what is left and right of each difference, and which one a requirement calls old.
    identity = [WAY, list(named.items()), seed, rounds, *([load_tests, suites] if load_tests or suites else [])]
    return store.write(f"comparison-{fingerprint(identity)}", comparison)


def measures_of(found: Evaluation) -> dict[str, Score]:
    """Give the measures of a suite, without those of its groups."""
    return {name: found.scores[name] for name in found.metrics if name in found.scores}


def _answered(rows: Mapping[str, Sequence[ItemRow]]) -> dict[str, Score]:
    """Count the answers of each candidate that hold any text; those that never arrived are no answers.

    Where none arrived, all are empty.
    """
    found = {}
    for name, items in rows.items():
        asked = [row for row in items if row.kind == "example" and (row.completion is not None or row.error)]
        came = [row for row in asked if row.error is None] or asked
        if came:
            told = sum(bool((row.completion or "").strip()) for row in came)
            found[name] = proportion_score("answered", told, len(came), signature="answers with text|wilson")
    return found


def _silent(answered: Mapping[str, Score]) -> list[str]:
    """Name those that never answered."""
    return [
        f"{name} never answers: none of its {score.n} answers has any text"
        for name, score in answered.items()
        if score.value == 0
    ]


def _unfinished(records: Mapping[str, Evaluation], rows: Mapping[str, Sequence[ItemRow]]) -> list[str]:
    """Say whose answers are missing, and whose were cut: their scores say less than those of the others."""
    notes = []
    for name, items in rows.items():
        came = [row for row in items if row.kind == "example" and row.completion is not None and row.error is None]
        cut = sum(row.finish == "length" for row in came)
        if cut:
            notes.append(f"{cut} of {len(came)} answers of {name} were cut at their limit")
        wrong = sum(row.error is not None for row in items)
        if wrong and not records[name].unanswered:
            notes.append(f"{wrong} items of {name} had an error: see its items.jsonl")
        if records[name].unanswered:
            failed = records[name].unanswered
            notes.append(f"{name} is incomplete: {failed} requests failed and are not scored; evaluate it again")
    return notes


def _as_deployed(load_tests: Mapping[str, LoadTest]) -> list[str]:
    """Say so where speeds come from different software: they then say nothing of the models alone."""
    engines = {name: one.engine for name, one in load_tests.items()}
    if len(set(engines.values())) < 2:
        return []
    said = "; ".join(f"{name}: {engine}" for name, engine in engines.items())
    return [f"speed with many users is that of each model as deployed, which no claim on the models rests on: {said}"]


def _named(ids: list[str], store: Store) -> dict[str, str]:
    named: dict[str, str] = {}
    for record_id in dict.fromkeys(ids):
        name = store.read(Evaluation, record_id).model.uri
        named[name if name not in named else f"{name} ({record_id})"] = record_id
    return named


def _check_same(records: Mapping[str, Evaluation]) -> None:
    (first_name, first), *others = records.items()
    for name, record in others:
        for what in ("data", "limit", "seed", "metrics"):
            left, right = getattr(first, what), getattr(record, what)
            if left != right:
                raise SizewiseError(
                    f"{first_name} and {name} were not measured on the same items: {what} is {left} and {right}.",
                    f"evaluations with the same {what}",
                    f"sizewise evaluate {record.model.uri} --data {first.data}"
                    + (f" --limit {first.limit}" if first.limit else ""),
                )


class _Claim(NamedTuple):
    left: str
    right: str
    found: Interval
    p: float
    n: int
    clusters: int
    other_p: dict[str, float]


def _best(
    records: Mapping[str, Evaluation], rows: Mapping[str, Sequence[ItemRow]], seed: int
) -> dict[str, dict[str, float]]:
    """Compute how often each candidate is the best in resamples, on metrics that all have over enough documents."""
    names = [name for name, record in records.items() if record.model.role == "candidate"]
    found = {}
    for metric_name in next(iter(records.values())).metrics:
        metric = find_metric(metric_name)
        by_item = {
            name: {row.item: row for row in rows[name] if row.uncontaminated and metric_name in row.stats}
            for name in names
        }
        if len(names) < 2 or metric_name == "perplexity":
            continue
        items = [item for item in by_item[names[0]] if all(item in by_item[name] for name in names)]
        if not items:
            continue
        stats = [stats_array(metric, [by_item[name][item] for item in items]) for name in names]
        clusters = [by_item[names[0]][item].cluster for item in items]
        if len(set(clusters)) < MIN_CLUSTERS:
            continue
        shares = best_shares(stats, clusters, metric.value, metric.better == "higher", BEST_ROUNDS, seed)
        found[metric_name] = dict(zip(names, shares, strict=True))
    return found


def differences(
    records: Mapping[str, Evaluation], rows: Mapping[str, Sequence[ItemRow]], rounds: int, seed: int
) -> tuple[list[Difference], list[str]]:
    """Compare all pairs on all metrics; pure.

    Args:
        records: name -> evaluation, all of the same metrics.
        rows: name -> its items.
        rounds: bootstrap rounds.
        seed: seed of the resampling.

    Returns:
        The differences, and what a reader should know of them.
    """
    found: list[Difference] = []
    apart: list[str] = []
    for metric_name in next(iter(records.values())).metrics:
        metric = find_metric(metric_name)
        by_item = {
            name: {row.item: row for row in rows[name] if row.uncontaminated and metric_name in row.stats}
            for name in records
        }
        claims = []
        for names in _same_items(by_item):
            items = [item for item in by_item[names[0]] if all(item in by_item[name] for name in names)]
            measured = {name: [by_item[name][item] for item in items] for name in names}
            pairs = list(combinations(names, 2))
            if metric_name == "perplexity":
                differing = [pair for pair in pairs if not _same_tokens(measured[pair[0]], measured[pair[1]])]
                apart += [" and ".join(pair) for pair in differing]
                pairs = [pair for pair in pairs if pair not in differing]
            # Without a value on one side (nothing was said whose words could be looked up) there is no difference.
            claims += [one for one in _claims(metric, measured, pairs, rounds, seed) if isfinite(one.found[0])]
        order = {pair: i for i, pair in enumerate(combinations(records, 2))}
        claims.sort(key=lambda claim: order[claim.left, claim.right])
        for claim, p_holm in zip(claims, holm([claim.p for claim in claims]), strict=True):
            found.append(_difference(metric, claim, p_holm))
    notes = (
        [f"perplexity is not compared between {', '.join(apart)}: their tokens differ (see bits per byte)"]
        if apart
        else []
    )
    most = max((one.clusters for one in found), default=MIN_CLUSTERS)
    if most < MIN_CLUSTERS:
        notes.append(f"no claim is made: {most} source documents are too few, at least {MIN_CLUSTERS} are needed")
    return found, notes


def _same_items(by_item: Mapping[str, Mapping[str, ItemRow]]) -> list[list[str]]:
    """Give groups of names that are compared together: all, or each pair over the items that both have."""
    names = [name for name, items in by_item.items() if items]
    if all(by_item[name].keys() == by_item[names[0]].keys() for name in names[1:]):
        return [names] if len(names) > 1 else []
    return [[left, right] for left, right in combinations(names, 2) if by_item[left].keys() & by_item[right].keys()]


def _same_tokens(left: Sequence[ItemRow], right: Sequence[ItemRow]) -> bool:
    return all(a.stats["perplexity"][1] == b.stats["perplexity"][1] for a, b in zip(left, right, strict=True))


def _claims(
    metric: Metric,
    measured: Mapping[str, Sequence[ItemRow]],
    pairs: Sequence[tuple[str, str]],
    rounds: int,
    seed: int,
) -> list[_Claim]:
    """Compare candidates over the same items in the same order."""
    places = {name: i for i, name in enumerate(measured)}
    stats = [stats_array(metric, rows) for rows in measured.values()]
    clusters = [row.cluster for row in next(iter(measured.values()))]
    found = paired_differences(
        stats, [(places[left], places[right]) for left, right in pairs], clusters, metric.value, rounds, seed
    )
    return [
        _Claim(
            left,
            right,
            interval,
            p,
            len(clusters),
            len(set(clusters)),
            _other_p(metric, stats[places[left]], stats[places[right]]),
        )
        for (left, right), (interval, p) in zip(pairs, found, strict=True)
    ]


def _other_p(metric: Metric, left: FloatArray, right: FloatArray) -> dict[str, float]:
    """Give the p-values that the field is used to; they take items for independent and decide nothing here."""
    if metric.name in SACREBLEU_METRICS:
        return {
            "approximate randomisation": randomisation_p(left, right, metric.value),
            "paired bootstrap": bootstrap_p(left, right, metric.value),
        }
    both = np.vstack([left, right])
    if both.shape[1] == 2 and metric.unit == "share" and np.isin(both[:, 0], (0, 1)).all() and (both[:, 1] == 1).all():
        return {"McNemar": mcnemar_p(left[:, 0], right[:, 0])}
    return {}


def _difference(metric: Metric, claim: _Claim, p_holm: float) -> Difference:
    # A model that says or understands nothing is unbiased, brief and refuses nothing: less of that is not better.
    quality = getattr(metric, "stands_for_quality", True)  # a plug-in's metric may not say
    won_by_nothing = metric.better == "lower" and metric.needs != "likelihood" and not quality
    value, ci_low, ci_high = claim.found
    significant = isfinite(p_holm) and p_holm < LEVEL and not ci_low <= 0 <= ci_high
    enough = claim.clusters >= MIN_CLUSTERS
    decisive = significant and enough and not won_by_nothing
    left_better = (value > 0) == (metric.better == "higher")
    known = isfinite(ci_low) and (enough or ci_low < ci_high)
    detectable = detectable_difference(ci_low, ci_high) if known and enough else None
    needed = needed_for(value, detectable, claim.clusters) if detectable and value else None
    return Difference(
        metric=metric.name,
        left=claim.left,
        right=claim.right,
        value=value,
        ci_low=ci_low if known else None,
        ci_high=ci_high if known else None,
        p=claim.p if isfinite(claim.p) else None,
        p_holm=p_holm if isfinite(p_holm) else None,
        other_p=claim.other_p if enough else {},
        detectable=detectable,
        needed=needed if enough else MIN_CLUSTERS,
        n=claim.n,
        clusters=claim.clusters,
        unit=metric.unit,
        better=(claim.left if left_better else claim.right) if decisive else None,
    )
