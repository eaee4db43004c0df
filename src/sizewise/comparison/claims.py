"""Differences between candidates, and the families of claims in which they are significant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from math import ceil, isfinite
from typing import NamedTuple

import numpy as np

from sizewise.comparison.tables import ItemTable
from sizewise.metrics import Metric, find_metric
from sizewise.metrics.base import MAX_MISSING_SHARE, bounds_of
from sizewise.records import Difference, Evaluation, Spread
from sizewise.stats import LEVEL, MIN_CLUSTERS, Systems, adjust_family, detectable, family_interval
from sizewise.stats.classical_tests import bootstrap_p, mcnemar_p, randomization_p
from sizewise.stats.inference import FloatArray, IntArray, group_clusters

SACREBLEU_METRICS = ("bleu", "chrf", "ter")
Pair = tuple[str, str]


class Differences(NamedTuple):
    """Differences of candidates on all metrics."""

    differences: list[Difference]
    spread: dict[str, Spread]
    notes: list[str]


class _Paired(NamedTuple):
    """Candidates measured with one metric on the same items, and the pairs of them to compare."""

    metric: Metric
    names: list[str]
    stats: FloatArray
    """(items, candidates, k)."""
    systems: Systems
    pairs: list[Pair]
    incomplete: frozenset[Pair]
    """Pairs of which one candidate lacks many items that the other has: what is missing may decide."""

    @property
    def indices(self) -> list[tuple[int, int]]:
        return [(self.names.index(left), self.names.index(right)) for left, right in self.pairs]


def differences(
    records: Mapping[str, Evaluation], tables: Mapping[str, ItemTable], seed: int = 0, classical_tests: bool = False
) -> Differences:
    """Compare candidates on all metrics; pure.

    Args:
        records: name -> evaluation, all with the same metrics.
        tables: name -> its items.
        seed: seed of the random subsets of documents.
        classical_tests: whether to compute the p-values of classical tests as well.
    """
    metrics = [find_metric(name) for name in next(iter(records.values())).metrics]
    incomparable: list[str] = []
    items = list(dict.fromkeys(item for table in tables.values() for item in table.items))
    rows = {name: table.rows_of(items) for name, table in tables.items()}
    paired = [entry for metric in metrics for entry in _paired(metric, records, tables, rows, incomparable, seed)]
    found: list[Difference] = []
    for family in _families(paired):
        adjusted = adjust_family([(entry.systems, entry.indices) for entry in family], seed)
        for entry, p_values in zip(family, adjusted.p, strict=True):
            found += _measured(entry, p_values, adjusted.level, classical_tests)
    places = [(metric.name, *pair) for metric in metrics for pair in combinations(records, 2)]
    order = {place: number for number, place in enumerate(places)}
    found.sort(key=lambda difference: order[difference.metric, difference.left, difference.right])
    return Differences(
        found,
        _spread(paired),
        _notes(incomparable, found) + _missing_items(paired) + _disjoint(metrics, records, tables, rows),
    )


def _notes(incomparable: Sequence[str], found: Sequence[Difference]) -> list[str]:
    notes = []
    if incomparable:
        notes.append(
            f"perplexity isn't comparable between {', '.join(incomparable)}, because their tokenizers differ; use bits "
            "per byte"
        )
    documents = max((difference.clusters for difference in found), default=MIN_CLUSTERS)
    if documents < MIN_CLUSTERS:
        notes.append(
            f"too few to decide: there are only {documents} source documents, and a claim requires at least "
            f"{MIN_CLUSTERS}"
        )
    return notes


def _missing_items(paired: Sequence[_Paired]) -> list[str]:
    pairs = dict.fromkeys(pair for entry in paired for pair in entry.pairs if pair in entry.incomplete)
    if not pairs:
        return []
    listed = "; ".join(" and ".join(pair) for pair in list(pairs)[:5]) + ("; ..." if len(pairs) > 5 else "")
    return [
        f"no difference counts as significant where one candidate lacks more than {MAX_MISSING_SHARE:.0%} of the items "
        f"of the other, because the missing ones may be the hard ones: {listed}"
    ]


def _disjoint(
    metrics: Sequence[Metric],
    records: Mapping[str, Evaluation],
    tables: Mapping[str, ItemTable],
    rows: Mapping[str, IntArray],
) -> list[str]:
    """Note the pairs that were measured, but on no common item."""
    pairs: dict[str, list[str]] = {}
    for metric in metrics:
        known = {name: table.measured(metric.name, rows[name]) >= 0 for name, table in tables.items()}
        for left, right in combinations(records, 2):
            if known[left].any() and known[right].any() and not (known[left] & known[right]).any():
                pairs.setdefault(f"{left} and {right}", []).append(metric.name)
    listed = "; ".join(f"{pair} ({', '.join(names)})" for pair, names in list(pairs.items())[:5])
    if not pairs:
        return []
    more = "; ..." if len(pairs) > 5 else ""
    return [f"no test item was measured for both, so there is no difference and nothing to claim: {listed}{more}"]


def _quality(metric: Metric) -> bool:
    return getattr(metric, "stands_for_quality", True)  # optional for plug-ins


def _families(paired: Sequence[_Paired]) -> Iterator[list[_Paired]]:
    """Group what shares an error rate: all quality metrics together, every other metric on its own."""
    quality = [entry for entry in paired if _quality(entry.metric)]
    if quality:
        yield quality
    others: dict[str, list[_Paired]] = defaultdict(list)
    for entry in paired:
        if not _quality(entry.metric):
            others[entry.metric.name].append(entry)
    yield from others.values()


def _paired(
    metric: Metric,
    records: Mapping[str, Evaluation],
    tables: Mapping[str, ItemTable],
    all_rows: Mapping[str, IntArray],
    incomparable: list[str],
    seed: int,
) -> Iterator[_Paired]:
    """Collect the candidates that share items, once for each set of common items."""
    rows = {name: table.measured(metric.name, all_rows[name]) for name, table in tables.items()}
    known = {name: row >= 0 for name, row in rows.items()}
    roles = {name: record.model.role for name, record in records.items()}
    by_items: dict[bytes, list[Pair]] = defaultdict(list)
    for left, right in combinations(records, 2):
        common = known[left] & known[right]
        if not common.any() or roles[left] == roles[right] == "baseline":
            continue
        if metric.name == "perplexity" and not _same_tokens(tables, rows, left, right, common):
            incomparable.append(f"{left} and {right}")
            continue
        by_items[np.packbits(common).tobytes()].append((left, right))
    for packed, pairs in by_items.items():
        names = [name for name in records if any(name in pair for pair in pairs)]
        count = len(all_rows[names[0]])
        common = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=count).astype(bool)
        stats = np.stack([tables[name].stats[metric.name][rows[name][common]] for name in names], axis=1)
        first = tables[names[0]]
        clusters = group_clusters([first.clusters[row] for row in rows[names[0]][common]])
        systems = Systems(stats, clusters, metric.value, bounds_of(metric), seed)
        valued = [pair for pair in pairs if all(isfinite(systems.values[names.index(name)]) for name in pair)]
        if valued:
            count = int(common.sum())
            most = {pair: max(int(known[name].sum()) for name in pair) for pair in valued}
            incomplete = frozenset(pair for pair in valued if count < (1 - MAX_MISSING_SHARE) * most[pair])
            yield _Paired(metric, names, stats, systems, valued, incomplete)


def _same_tokens(
    tables: Mapping[str, ItemTable], rows: Mapping[str, np.ndarray], left: str, right: str, common: np.ndarray
) -> bool:
    counts = [tables[name].stats["perplexity"][rows[name][common], 1] for name in (left, right)]
    return bool((counts[0] == counts[1]).all())


def _measured(entry: _Paired, p_values: Sequence[float], level: float, classical_tests: bool) -> Iterator[Difference]:
    metric, systems = entry.metric, entry.systems
    # A model that understands nothing is unbiased, brief and never refuses, so a lower value doesn't make it better.
    won_by_silence = metric.better == "lower" and metric.needs != "likelihood" and not _quality(metric)
    for (left, right), (i, j), p_adjusted in zip(entry.pairs, entry.indices, p_values, strict=True):
        contrast = systems.difference(i, j)
        known = isfinite(contrast.ci_low) and isfinite(contrast.ci_high)
        left_better = (contrast.value > 0) == (metric.better == "higher")
        decisive = known and p_adjusted < LEVEL and not won_by_silence and (left, right) not in entry.incomplete
        smallest = detectable(contrast, systems.clusters, level) if known and contrast.error else None
        adjusted: tuple[float, float] | tuple[None, None] = (None, None)
        if known and isfinite(p_adjusted):
            adjusted = family_interval(contrast[:3], systems.clusters, level, p_adjusted < LEVEL)
        needed = None if systems.enough else MIN_CLUSTERS
        if smallest and contrast.value:
            needed = max(systems.clusters, ceil(systems.clusters * (smallest / contrast.value) ** 2))
        yield Difference(
            metric=metric.name,
            left=left,
            right=right,
            value=contrast.value,
            ci_low=contrast.ci_low if known else None,
            ci_high=contrast.ci_high if known else None,
            p=contrast.p if known else None,
            p_adjusted=p_adjusted if known and isfinite(p_adjusted) else None,
            ci_low_adjusted=adjusted[0],
            ci_high_adjusted=adjusted[1],
            other_p=_classical(metric, entry.stats[:, i], entry.stats[:, j]) if classical_tests else {},
            detectable=smallest,
            needed=needed,
            n=systems.items,
            clusters=systems.clusters,
            unit=metric.unit,
            better=(left if left_better else right) if decisive else None,
        )


def _classical(metric: Metric, left: FloatArray, right: FloatArray) -> dict[str, float]:
    """Compute the p-values that papers usually report. They treat items as independent and don't affect the verdict."""
    if metric.name in SACREBLEU_METRICS:
        return {
            "approximate randomization": randomization_p(left, right, metric.value),
            "paired bootstrap": bootstrap_p(left, right, metric.value),
        }
    both = np.vstack([left, right])
    if both.shape[1] == 2 and metric.unit == "share" and np.isin(both[:, 0], (0, 1)).all() and (both[:, 1] == 1).all():
        return {"McNemar": mcnemar_p(left[:, 0], right[:, 0])}
    return {}


def _spread(paired: Sequence[_Paired]) -> dict[str, Spread]:
    """Collect how candidates vary together, for each quality metric on which all of them share their items."""
    found: dict[str, Spread] = {}
    for entry in paired:
        systems = entry.systems
        larger = entry.metric.name not in found or len(entry.names) > len(found[entry.metric.name].names)
        if _quality(entry.metric) and systems.enough and np.isfinite(systems.pseudo).all() and larger:
            matrix = tuple(tuple(float(value) for value in row) for row in systems.covariance)
            found[entry.metric.name] = Spread(
                names=tuple(entry.names), values=tuple(map(float, systems.values)), covariance=matrix
            )
    return found
