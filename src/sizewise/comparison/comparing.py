"""compare(): paired differences between evaluations of the same data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
from sizewise.stats.classical_tests import bootstrap_p, mcnemar_p, randomization_p
from sizewise.store import Saved, Store, id_of

ROUNDS = 10_000
BEST_ROUNDS = 2_000
COMPARISON_VERSION = 2
"""Incremented whenever a change alters the result for the same evaluations; part of a comparison's id."""
LEVEL = 0.05
SACREBLEU_METRICS = ("bleu", "chrf", "ter")
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
    seed: int = 0,
    rounds: int = ROUNDS,
) -> Saved[Comparison]:
    """Compare evaluations of the same data, pair by pair.

    Source documents are resampled with the same weights on both sides; Holm's correction covers all pairs of a metric.

    Args:
        evaluations: evaluations or their ids, or candidate name -> evaluation.
        store: where records live; by default SIZEWISE_HOME.
        load_tests: candidate name -> load test id.
        suites: candidate name -> id of an evaluation on a bias suite.
        seed: seed of the resampling.
        rounds: bootstrap rounds.

    Raises:
        UsageError: there are fewer than two evaluations, or a load test or suite belongs to an unknown candidate.
        SizewiseError: the evaluations don't cover the same items.
    """
    store = store or Store()
    named = _named(evaluations, store)
    load_tests, suites = dict(load_tests or {}), dict(suites or {})
    unknown = next((name for name in (*load_tests, *suites) if name not in named), None)
    if unknown is not None:
        raise UsageError(f"Unknown candidate '{unknown}'.", ", ".join(named), "")
    records, rows = _read(named, store)
    first = next(iter(records.values()))
    found, notes = differences(records, rows, rounds, seed)
    loaded = {name: store.read(LoadTest, record_id) for name, record_id in load_tests.items()}
    answered = _answered(rows)
    comparison = Comparison(
        data=first.data,
        evaluations=named,
        models={name: record.model for name, record in records.items()},
        scores=_scores_by_metric(records),
        better={metric: find_metric(metric).better for metric in first.metrics} | FACTS_BETTER,
        differences=tuple(found),
        language_modeling_proxy=not first.data.startswith("suite:") and store.read(Dataset, first.data).derived,
        load_tests=load_tests,
        load_levels={name: test.levels for name, test in loaded.items()},
        suites=suites,
        suite_scores={name: measures_of(store.read(Evaluation, suite_id)) for name, suite_id in suites.items()},
        answered=answered,
        probability_best=_probability_best(records, rows, seed),
        rounds=rounds,
        seed=seed,
        method_version=COMPARISON_VERSION,
        notes=(*notes, *_engine_notes(loaded)),
        cautions=tuple(_silent(answered) + _incomplete(records, rows)),
    )
    # Order matters: it determines the sides of each difference, and which evaluation a requirement calls old.
    identity = [COMPARISON_VERSION, list(named.items()), seed, rounds]
    identity += [load_tests, suites] if load_tests or suites else []
    return store.write(f"comparison-{fingerprint(identity)}", comparison)


def _read(named: Mapping[str, str], store: Store) -> tuple[dict[str, Evaluation], dict[str, Sequence[ItemRow]]]:
    """Read evaluations of the same items, and their items."""
    records = {name: store.read(Evaluation, record_id) for name, record_id in named.items()}
    _check_same(records)
    rows: dict[str, Sequence[ItemRow]] = {
        name: store.read_rows(store.folder("evaluation", record_id), "items.jsonl", ItemRow)
        for name, record_id in named.items()
    }
    return records, rows


def _scores_by_metric(records: Mapping[str, Evaluation]) -> dict[str, dict[str, Score]]:
    scores: dict[str, dict[str, Score]] = {}
    for name, record in records.items():
        for metric, score in record.scores.items():
            scores.setdefault(metric, {})[name] = score
    return scores


def measures_of(evaluation: Evaluation) -> dict[str, Score]:
    """Return the scores of a suite, without those of its groups."""
    return {name: evaluation.scores[name] for name in evaluation.metrics if name in evaluation.scores}


def _answered(rows: Mapping[str, Sequence[ItemRow]]) -> dict[str, Score]:
    """Compute the share of each candidate's answers that contain text.

    Failed requests don't count as answers; if all failed, all answers count as empty.
    """
    found = {}
    for name, items in rows.items():
        requested = [row for row in items if row.kind == "example" and (row.completion is not None or row.error)]
        answers = [row for row in requested if row.error is None] or requested
        if answers:
            with_text = sum(bool((row.completion or "").strip()) for row in answers)
            found[name] = proportion_score("answered", with_text, len(answers), signature="answers with text|wilson")
    return found


def _silent(answered: Mapping[str, Score]) -> list[str]:
    """List the candidates that never answer."""
    return [
        f"{name} never answers: all of its {score.n} answers are empty"
        for name, score in answered.items()
        if score.value == 0
    ]


def _incomplete(records: Mapping[str, Evaluation], rows: Mapping[str, Sequence[ItemRow]]) -> list[str]:
    """List the candidates with missing or truncated answers, whose scores are less reliable."""
    notes = []
    for name, items in rows.items():
        answers = [row for row in items if row.kind == "example" and row.completion is not None and row.error is None]
        truncated = sum(row.finish == "length" for row in answers)
        if truncated:
            notes.append(f"{truncated} of {len(answers)} answers of {name} were cut off at max_tokens")
        failed, unanswered = sum(row.error is not None for row in items), records[name].unanswered
        if failed and not unanswered:
            notes.append(f"{failed} item{'s' * (failed > 1)} of {name} failed with an error; see its items.jsonl")
        if unanswered:
            notes.append(
                f"{name} is incomplete: {unanswered} requests failed and aren't scored; run its evaluation again"
            )
    return notes


def _engine_notes(load_tests: Mapping[str, LoadTest]) -> list[str]:
    """Warn if load tests ran on different engines, because the speeds then reflect more than the models."""
    engines = {name: test.engine for name, test in load_tests.items()}
    if len(set(engines.values())) < 2:
        return []
    listed = "; ".join(f"{name}: {engine}" for name, engine in engines.items())
    return [f"load tests ran on different engines, so speed differences don't come from the models alone: {listed}"]


def _named(
    evaluations: Sequence[str | Saved[Evaluation]] | Mapping[str, str | Saved[Evaluation]], store: Store
) -> dict[str, str]:
    """Name at least two evaluations: by the given names, or by the URI of their model."""
    if isinstance(evaluations, str | Saved) or not isinstance(evaluations, Iterable):
        raise UsageError(
            f"Comparing takes several evaluations, not {evaluations!r:.60}.", "a list of evaluations or ids", ""
        )
    if isinstance(evaluations, Mapping):
        named = {name: id_of(one) for name, one in evaluations.items()}
    else:
        named = {}
        for record_id in dict.fromkeys(map(id_of, evaluations)):
            name = store.read(Evaluation, record_id).model.uri
            named[name if name not in named else f"{name} ({record_id})"] = record_id
    if len(named) < 2:
        raise UsageError(
            f"A comparison needs at least two evaluations, not {len(named)}.",
            "two or more ids",
            "sizewise compare ID ID",
        )
    return named


def _check_same(records: Mapping[str, Evaluation]) -> None:
    for name, record in records.items():
        if record.stopped is not None:
            raise SizewiseError(
                f"The evaluation of {name} stopped once its question was decided, so tests on its items don't hold.",
                "an evaluation of all items",
                f"sizewise evaluate {record.model.uri} --data {record.data}",
            )
    (first_name, first), *others = records.items()
    for name, record in others:
        for field in ("data", "limit", "seed", "metrics"):
            left, right = getattr(first, field), getattr(record, field)
            if left != right:
                raise SizewiseError(
                    f"{first_name} and {name} were evaluated on different items: {field} is {left} and {right}.",
                    f"evaluations with the same {field}",
                    f"sizewise evaluate {record.model.uri} --data {first.data}"
                    + (f" --limit {first.limit}" if first.limit else ""),
                )


class _Claim(NamedTuple):
    left: str
    right: str
    difference: Interval
    p: float
    n: int
    clusters: int
    other_p: dict[str, float]


def _probability_best(
    records: Mapping[str, Evaluation], rows: Mapping[str, Sequence[ItemRow]], seed: int
) -> dict[str, dict[str, float]]:
    """Compute how often each candidate is the best in resamples, for each metric measured on enough documents."""
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
        records: name -> evaluation, all with the same metrics.
        rows: name -> its items.
        rounds: bootstrap rounds.
        seed: seed of the resampling.

    Returns:
        The differences, and notes for the reader.
    """
    found: list[Difference] = []
    incomparable: list[str] = []
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
                incomparable += [" and ".join(pair) for pair in differing]
                pairs = [pair for pair in pairs if pair not in differing]
            # If a metric has no value on one side, such as lexical grounding of empty answers, there is no difference.
            claims += [c for c in _claims(metric, measured, pairs, rounds, seed) if isfinite(c.difference.value)]
        order = {pair: i for i, pair in enumerate(combinations(records, 2))}
        claims.sort(key=lambda claim: order[claim.left, claim.right])
        for claim, p_holm in zip(claims, holm([claim.p for claim in claims]), strict=True):
            found.append(_difference(metric, claim, p_holm))
    notes = []
    if incomparable:
        notes.append(
            f"perplexity isn't comparable between {', '.join(incomparable)}, because their tokenizers differ; use bits "
            "per byte"
        )
    documents = max((difference.clusters for difference in found), default=MIN_CLUSTERS)
    if documents < MIN_CLUSTERS:
        notes.append(
            f"no difference counts as significant: there are only {documents} source documents, and a claim requires "
            f"at least {MIN_CLUSTERS}"
        )
    return found, notes


def _same_items(by_item: Mapping[str, Mapping[str, ItemRow]]) -> list[list[str]]:
    """Group names for comparison: all together if they share all items, else pair by pair over common items."""
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
    """Compare candidates on the same items in the same order."""
    index = {name: i for i, name in enumerate(measured)}
    stats = [stats_array(metric, rows) for rows in measured.values()]
    clusters = [row.cluster for row in next(iter(measured.values()))]
    found = paired_differences(
        stats, [(index[left], index[right]) for left, right in pairs], clusters, metric.value, rounds, seed
    )
    return [
        _Claim(
            left,
            right,
            interval,
            p,
            len(clusters),
            len(set(clusters)),
            _other_p(metric, stats[index[left]], stats[index[right]]),
        )
        for (left, right), (interval, p) in zip(pairs, found, strict=True)
    ]


def _other_p(metric: Metric, left: FloatArray, right: FloatArray) -> dict[str, float]:
    """Compute the p-values that papers usually report. They treat items as independent and don't affect the verdict."""
    if metric.name in SACREBLEU_METRICS:
        return {
            "approximate randomisation": randomization_p(left, right, metric.value),
            "paired bootstrap": bootstrap_p(left, right, metric.value),
        }
    both = np.vstack([left, right])
    if both.shape[1] == 2 and metric.unit == "share" and np.isin(both[:, 0], (0, 1)).all() and (both[:, 1] == 1).all():
        return {"McNemar": mcnemar_p(left[:, 0], right[:, 0])}
    return {}


def _difference(metric: Metric, claim: _Claim, p_holm: float) -> Difference:
    # A model that understands nothing is unbiased, brief and never refuses, so a lower value doesn't make it better.
    quality = getattr(metric, "stands_for_quality", True)  # optional for plug-ins
    won_by_silence = metric.better == "lower" and metric.needs != "likelihood" and not quality
    value, ci_low, ci_high = claim.difference
    significant = isfinite(p_holm) and p_holm < LEVEL and not ci_low <= 0 <= ci_high
    enough = claim.clusters >= MIN_CLUSTERS
    decisive = significant and enough and not won_by_silence
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
