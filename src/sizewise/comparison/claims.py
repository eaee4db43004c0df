"""Differences between candidates, and the families of claims in which they are significant."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from itertools import combinations
from math import ceil, isfinite
from typing import NamedTuple

import numpy as np

from sizewise.comparison.likeness import unlike_pairs
from sizewise.comparison.tables import BoolArray, ItemTable
from sizewise.errors import SizewiseError
from sizewise.metrics import METRICS, Metric, find_metric
from sizewise.metrics.base import MAX_MISSING_SHARE, bounds_of, needs_items
from sizewise.records import Difference, Evaluation, Spread, Unlike
from sizewise.stats import LEVEL, MIN_CLUSTERS, Systems, adjust_family, detectable, family_interval
from sizewise.stats.classical_tests import bootstrap_p, mcnemar_p, randomization_p
from sizewise.stats.inference import FloatArray, IntArray, group_clusters

SACREBLEU_METRICS = ("bleu", "chrf", "ter")
GAP_BASES = (
    "counterfactual_likelihood",
    "counterfactual_quality",
    "counterfactual_refusal",
    "counterfactual_sentiment",
)
CHOSEN_BY_RESULTS = ("counterfactual_gap", *(f"{base}_gap" for base in GAP_BASES))
Pair = tuple[str, str]


class Differences(NamedTuple):
    """Differences of candidates on all metrics."""

    differences: list[Difference]
    spread: dict[str, Spread]
    notes: list[str]
    unlike: list[Unlike]


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
    left_out: dict[str, int]
    """Candidate -> its items that these pairs don't rest on, because another candidate lacks them."""

    @property
    def indices(self) -> list[tuple[int, int]]:
        return [(self.names.index(left), self.names.index(right)) for left, right in self.pairs]


def differences(
    records: Mapping[str, Evaluation],
    tables: Mapping[str, ItemTable],
    seed: int = 0,
    classical_tests: bool = False,
    extra: Sequence[str] = (),
) -> Differences:
    """Compare candidates on all metrics; pure.

    Args:
        records: name -> evaluation, all with the same metrics.
        tables: name -> its items.
        seed: seed of the random subsets of documents.
        classical_tests: whether to compute the p-values of classical tests as well.
        extra: further metrics of which the tables have statistics.
    """
    metrics = [find_metric(name) for name in (*next(iter(records.values())).metrics, *extra)]
    metrics += group_metrics(records)
    incomparable: list[str] = []
    items = list(dict.fromkeys(item for table in tables.values() for item in table.items))
    rows = {name: table.rows_of(items) for name, table in tables.items()}
    summed = [metric for metric in metrics if not needs_items(metric)]
    unlike = {metric.name: unlike_pairs(metric, records) for metric in summed}
    # What is added is read from the same answers, so it is unlike where a metric of these answers is.
    of_answers = [unlike[metric.name] for metric in summed if metric.needs == "answers" and metric.name not in extra]
    unlike |= {name: {pair: one for pairs in of_answers for pair, one in pairs.items()} for name in extra}
    paired = [
        entry
        for metric in summed
        for entry in _paired(metric, records, tables, rows, (incomparable, unlike[metric.name]), seed)
    ]
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
        _notes(incomparable, [metric.name for metric in metrics if needs_items(metric)], found)
        + _missing_items(paired)
        + _disjoint(metrics, records, tables, rows),
        [one for name, pairs in unlike.items() if name not in extra for one in pairs.values()],
    )


def check_alike(found: Differences) -> Differences:
    """Check that something is left to compare, and return it.

    Raises:
        SizewiseError: everything was measured in different ways.
    """
    if found.unlike and not found.differences:
        one = found.unlike[0]
        raise SizewiseError(
            f"{one.left} and {one.right} were measured in different ways: {one.reason} ({one.metric}).",
            "evaluations that were measured alike",
            one.repair,
        )
    return found


def group_metrics(records: Mapping[str, Evaluation]) -> list[Metric]:
    """Return a metric for each score of a group (`METRIC#GROUP`) that at least two candidates have."""
    counts = Counter(
        name
        for record in records.values()
        for name, score in record.scores.items()
        if "#" in name and score.value is not None
    )
    found: list[Metric] = []
    for name, count in counts.items():
        base = METRICS.get(name.partition("#")[0])
        # The largest gap between groups is chosen by the results, so a difference of two such gaps has no test.
        if count > 1 and base is not None and base.name not in CHOSEN_BY_RESULTS:
            metric = copy(base)
            metric.name = name
            found.append(metric)
    return found


def _notes(incomparable: Sequence[str], left_out: Sequence[str], found: Sequence[Difference]) -> list[str]:
    notes = []
    if incomparable:
        notes.append(
            f"perplexity isn't comparable between {', '.join(incomparable)}, because their tokenizers differ; use bits "
            "per byte"
        )
    if "ece" in left_out:
        notes.append("differences of ece aren't tested, because its bins depend on the model; use log_loss")
    if others := [name for name in left_out if name != "ece"]:
        notes.append(f"differences of {', '.join(others)} aren't tested, because each is a value of all items together")
    documents = max((difference.clusters for difference in found), default=MIN_CLUSTERS)
    if documents < MIN_CLUSTERS:
        notes.append(
            f"too few to decide: there are only {documents} source documents, and a claim requires at least "
            f"{MIN_CLUSTERS}"
        )
    return notes


def _missing_items(paired: Sequence[_Paired]) -> list[str]:
    pairs = dict.fromkeys(pair for entry in paired for pair in entry.pairs if pair in entry.incomplete)
    notes = _items_left_out(paired)
    if not pairs:
        return notes
    listed = "; ".join(" and ".join(pair) for pair in list(pairs)[:5]) + ("; ..." if len(pairs) > 5 else "")
    return [
        *notes,
        f"no difference counts as significant where one candidate lacks more than {MAX_MISSING_SHARE:.0%} of the items "
        f"of the other, because the missing ones may be the hard ones: {listed}",
    ]


def _items_left_out(paired: Sequence[_Paired]) -> list[str]:
    """Describe on which items the differences rest, where not every candidate has all of them."""
    by_metric: dict[str, list[_Paired]] = defaultdict(list)
    for entry in paired:
        if "#" not in entry.metric.name:
            by_metric[entry.metric.name].append(entry)
    by_text: dict[str, list[str]] = {}
    for metric, entries in by_metric.items():
        left_out: dict[str, int] = {}
        for entry in entries:
            left_out |= {name: max(count, left_out.get(name, 0)) for name, count in entry.left_out.items()}
        if not left_out:
            continue
        listed = ", ".join(f"{count} of {name}" for name, count in list(left_out.items())[:5])
        items = f"the {entries[0].systems.items:,} items that every candidate has"
        if len(entries) > 1:
            items = "the items that both candidates have, because some candidate lacks more than 5% of them"
        text = f"every difference rests on {items}; left out are {listed}{', ...' * (len(left_out) > 5)}"
        by_text.setdefault(text, []).append(metric)
    return [f"{', '.join(metrics)}: {text}" for text, metrics in by_text.items()]


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


def _shares_level(metric: Metric) -> bool:
    """Return whether a metric is one of several that may stand for quality; people's grades come before them."""
    return _quality(metric) and not getattr(metric, "family_of_its_own", False)


def _families(paired: Sequence[_Paired]) -> Iterator[list[_Paired]]:
    """Group what shares an error rate: all quality metrics, all groups of people, and every other metric on its own."""
    quality = [entry for entry in paired if _shares_level(entry.metric) and "#" not in entry.metric.name]
    if quality:
        yield quality
    others: dict[str, list[_Paired]] = defaultdict(list)
    for entry in paired:
        if "#" in entry.metric.name:
            others["#"].append(entry)
        elif not _shares_level(entry.metric):
            others[entry.metric.name].append(entry)
    yield from others.values()


def _paired(
    metric: Metric,
    records: Mapping[str, Evaluation],
    tables: Mapping[str, ItemTable],
    all_rows: Mapping[str, IntArray],
    left_out: tuple[list[str], Mapping[Pair, Unlike]],
    seed: int,
) -> Iterator[_Paired]:
    """Collect the candidates that share items, once for each set of common items.

    Args:
        metric: metric to compare.
        records: name -> evaluation.
        tables: name -> its items.
        all_rows: name -> row of each item.
        left_out: pairs whose tokens differ, to which perplexity adds; and pairs that were measured in different ways.
        seed: seed of the random subsets of documents.
    """
    incomparable, unlike = left_out
    rows = {name: table.measured(metric.name, all_rows[name]) for name, table in tables.items()}
    known = {name: row >= 0 for name, row in rows.items()}
    roles = {name: record.model.role for name, record in records.items()}
    shared = _shared_items(known)
    by_items: dict[bytes, list[Pair]] = defaultdict(list)
    for left, right in combinations(records, 2):
        common = known[left] & known[right]
        if shared is not None and {left, right} <= shared.names:
            common = shared.items
        if not common.any() or (left, right) in unlike or roles[left] == roles[right] == "baseline":
            continue
        if metric.name == "perplexity" and not _same_tokens(tables, rows, left, right, common):
            incomparable.append(f"{left} and {right}")
            continue
        by_items[np.packbits(common).tobytes()].append((left, right))
    for packed, pairs in by_items.items():
        names = [name for name in records if any(name in pair for pair in pairs)]
        count = len(all_rows[names[0]])
        common = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=count).astype(bool)
        stats = np.stack([tables[name].column(metric.name)[rows[name][common]] for name in names], axis=1)
        first = tables[names[0]]
        clusters = group_clusters([first.clusters[row] for row in rows[names[0]][common]])
        systems = Systems(stats, clusters, metric.value, bounds_of(metric), seed)
        valued = [pair for pair in pairs if all(isfinite(systems.values[names.index(name)]) for name in pair)]
        if valued:
            count = int(common.sum())
            # Items that only one of them was asked aren't missing: a smaller sample of the same order is a random part.
            asked = {pair: (all_rows[pair[0]] >= 0) & (all_rows[pair[1]] >= 0) for pair in valued}
            most = {pair: max(int((known[name] & asked[pair]).sum()) for name in pair) for pair in valued}
            incomplete = frozenset(pair for pair in valued if count < (1 - MAX_MISSING_SHARE) * most[pair])
            yield _Paired(metric, names, stats, systems, valued, incomplete, _left_out(known, names, common))


class _Shared(NamedTuple):
    """Candidates whose pairs all rest on the same items."""

    names: frozenset[str]
    items: BoolArray


def _shared_items(known: Mapping[str, BoolArray]) -> _Shared | None:
    """Choose the items on which all pairs rest: those that every candidate has that lacks only a few.

    A candidate lacks few items if it has 95% of those that any candidate has. The others are compared on what a pair
    has in common. So are all pairs, if the items in common would be fewer than 95%.
    """
    measured = np.logical_or.reduce(list(known.values()))
    least = (1 - MAX_MISSING_SHARE) * int(measured.sum())
    names = frozenset(name for name, one in known.items() if one.any() and int(one.sum()) >= least)
    if len(names) < 2:
        return None
    items = np.logical_and.reduce([known[name] for name in sorted(names)])
    return _Shared(names, items) if int(items.sum()) >= least else None


def _left_out(known: Mapping[str, BoolArray], names: Sequence[str], common: BoolArray) -> dict[str, int]:
    """Count the items that a candidate has but that its pairs don't rest on, because another one lacks them."""
    return {name: extra for name in names if (extra := int((known[name] & ~common).sum()))}


def _same_tokens(
    tables: Mapping[str, ItemTable], rows: Mapping[str, np.ndarray], left: str, right: str, common: np.ndarray
) -> bool:
    counts = [tables[name].column("perplexity")[rows[name][common], 1] for name in (left, right)]
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
