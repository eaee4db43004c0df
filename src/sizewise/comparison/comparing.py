"""compare(): paired differences between evaluations of the same data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import isfinite
from typing import NamedTuple

import numpy as np

from sizewise.errors import SizewiseError, UsageError
from sizewise.inference import detectable_difference, holm
from sizewise.inference.bootstrap import paired_difference
from sizewise.metrics import Metric, find_metric, stats_array
from sizewise.records import Comparison, Dataset, Difference, Evaluation, ItemRow, Score, fingerprint
from sizewise.store import Store, Stored

ROUNDS = 10_000
LEVEL = 0.05
# Which way is better, for scores that are not metrics of items.
FACTS_BETTER = {
    "latency_s": "lower",
    "answers_per_s": "higher",
    "parameters": "lower",
    "memory_bytes": "lower",
    "disk_bytes": "lower",
}


def compare(
    evaluations: Sequence[str] | Mapping[str, str],
    *,
    store: Store | None = None,
    seed: int = 0,
    rounds: int = ROUNDS,
) -> Stored[Comparison]:
    """Compare evaluations of the same data, pair by pair.

    Source documents are resampled, both sides with the same weights; Holm's correction runs over all pairs
    of one metric.

    Args:
        evaluations: evaluation ids, or candidate name -> evaluation id.
        store: where records live; by default SIZEWISE_HOME.
        seed: seed of the resampling.
        rounds: bootstrap rounds.

    Raises:
        UsageError: fewer than two evaluations.
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
    differences, notes = _differences(records, rows, rounds, seed)
    scores: dict[str, dict[str, Score]] = {}
    for name, measured in records.items():
        for metric, score in measured.scores.items():
            scores.setdefault(metric, {})[name] = score
    comparison = Comparison(
        data=first.data,
        evaluations=named,
        models={name: measured.model for name, measured in records.items()},
        scores=scores,
        better={m: find_metric(m).better for m in first.metrics} | FACTS_BETTER,
        differences=tuple(differences),
        familiarity=not first.data.startswith("suite:") and store.read(Dataset, first.data).derived,
        rounds=rounds,
        seed=seed,
        notes=tuple(notes),
    )
    return store.write(f"comparison-{fingerprint([named, seed, rounds])}", comparison)


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
    value: float
    low: float
    high: float
    p: float
    n: int
    clusters: int


def _differences(
    records: Mapping[str, Evaluation], rows: Mapping[str, Sequence[ItemRow]], rounds: int, seed: int
) -> tuple[list[Difference], list[str]]:
    found: list[Difference] = []
    notes: list[str] = []
    for metric_name in next(iter(records.values())).metrics:
        metric = find_metric(metric_name)
        by_item = {
            name: {row.item: row for row in some if row.clean and metric_name in row.stats}
            for name, some in rows.items()
        }
        claims = []
        for left, right in combinations([name for name in records if by_item[name]], 2):
            items = [item for item in by_item[left] if item in by_item[right]]
            left_rows, right_rows = [by_item[left][i] for i in items], [by_item[right][i] for i in items]
            if not items:
                continue
            if metric_name == "perplexity" and not _same_tokens(left_rows, right_rows):
                notes.append(f"{left} and {right}")
                continue
            claims.append(_claim(metric, left, right, left_rows, right_rows, rounds, seed))
        for claim, p_holm in zip(claims, holm([claim.p for claim in claims]), strict=True):
            found.append(_difference(metric, claim, p_holm))
    if notes:
        notes = [f"perplexity is not compared between {', '.join(notes)}: their tokens differ (see bits per byte)"]
    return found, notes


def _same_tokens(left: Sequence[ItemRow], right: Sequence[ItemRow]) -> bool:
    return all(a.stats["perplexity"][1] == b.stats["perplexity"][1] for a, b in zip(left, right, strict=True))


def _claim(
    metric: Metric,
    left: str,
    right: str,
    left_rows: Sequence[ItemRow],
    right_rows: Sequence[ItemRow],
    rounds: int,
    seed: int,
) -> _Claim:
    clusters = [row.cluster for row in left_rows]
    found, p = paired_difference(
        stats_array(metric, left_rows), stats_array(metric, right_rows), clusters, metric.value, rounds, seed
    )
    return _Claim(left, right, found.value, found.low, found.high, p, len(left_rows), len(np.unique(clusters)))


def _difference(metric: Metric, claim: _Claim, p_holm: float) -> Difference:
    # A model that understands nothing shows no bias either: less of it makes nobody the better one.
    of_bias = metric.needs == "suite" and metric.better == "lower"
    decisive = isfinite(p_holm) and p_holm < LEVEL and not claim.low <= 0 <= claim.high and not of_bias
    left_better = (claim.value > 0) == (metric.better == "higher")
    known = isfinite(claim.low)
    return Difference(
        metric=metric.name,
        left=claim.left,
        right=claim.right,
        value=claim.value,
        low=claim.low if known else None,
        high=claim.high if known else None,
        p=claim.p if known else None,
        p_holm=p_holm if known else None,
        detectable=detectable_difference(claim.low, claim.high) if known else None,
        n=claim.n,
        clusters=claim.clusters,
        unit=metric.unit,
        better=(claim.left if left_better else claim.right) if decisive else None,
    )
