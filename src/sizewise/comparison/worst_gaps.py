"""Differences between candidates in the largest gap between two groups of people (counterfactual fairness)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from itertools import combinations
from math import isfinite

import numpy as np

from sizewise.comparison.claims import GAP_BASES
from sizewise.comparison.likeness import unlike_pairs
from sizewise.comparison.tables import ItemTable
from sizewise.metrics import find_metric
from sizewise.records import Difference, Evaluation
from sizewise.stats import LEVEL
from sizewise.stats.paired_gaps import GapDifference, WorstGap, gap_difference, worst_gap

BOUNDS = {"chrF": (-100.0, 100.0), "share": (-1.0, 1.0), "0-2": (-2.0, 2.0)}
"""Unit of a gap -> smallest and largest difference of two groups."""


def gap_differences(records: Mapping[str, Evaluation], tables: Mapping[str, ItemTable]) -> list[Difference]:
    """Compare the largest gaps of candidates that were measured alike; all of them share one error rate.

    No candidate is called better: a gap that changed is a question for a person.

    Args:
        records: candidate -> evaluation.
        tables: candidate -> its items.
    """
    found = list(_pairs(records, tables))
    level = LEVEL / max(1, len(found))
    return [
        _difference(name, pair, one, other, gap_difference(one, other, level), len(found), items)
        for name, pair, one, other, items in found
    ]


_Found = tuple[str, tuple[str, str], WorstGap, WorstGap, int]


def _pairs(records: Mapping[str, Evaluation], tables: Mapping[str, ItemTable]) -> Iterator[_Found]:
    """Yield the gaps of each pair of candidates on the items that both have."""
    names = [f"{base}_gap" for base in GAP_BASES]
    keys = dict.fromkeys(key for record in records.values() for key in record.scores if key.partition("#")[0] in names)
    for key in keys:
        known = [name for name, one in records.items() if key in one.scores and one.scores[key].value is not None]
        base, _, attribute = key.partition("#")
        measured = {name: _values(tables[name], f"{base.removesuffix('_gap')}#{attribute}: ") for name in known}
        metric = copy(find_metric(base))
        metric.name = key
        unlike = unlike_pairs(metric, {name: records[name] for name in known})
        for left, right in combinations(known, 2):
            shared = [item for item in measured[left] if item in measured[right]]
            if (left, right) in unlike or not shared:
                continue
            clusters = [tables[left].clusters[tables[left].items[item]] for item in shared]
            bounds = BOUNDS.get(metric.unit, (-np.inf, np.inf))
            gaps = [
                worst_gap(np.array([measured[name][item] for item in shared]), clusters, bounds)
                for name in (left, right)
            ]
            yield key, (left, right), gaps[0], gaps[1], len(shared)


def _values(table: ItemTable, prefix: str) -> dict[str, np.ndarray]:
    """Collect the value of every group for each item that has all of them."""
    columns = [table.stats[key][:, 0] for key in sorted(table.stats) if key.startswith(prefix)]
    if not columns:
        return {}
    values = np.column_stack(columns)
    known = table.uncontaminated & ~np.isnan(values).any(axis=1)
    return {item: values[row] for item, row in table.items.items() if known[row]}


def _difference(
    name: str,
    pair: tuple[str, str],
    one: WorstGap,
    other: WorstGap,
    adjusted: GapDifference,
    claims: int,
    items: int,
) -> Difference:
    alone = gap_difference(one, other)
    known = isfinite(alone.p)
    return Difference(
        metric=name,
        left=pair[0],
        right=pair[1],
        value=alone.value,
        ci_low=alone.ci_low if known else None,
        ci_high=alone.ci_high if known else None,
        p=alone.p if known else None,
        p_adjusted=min(1.0, alone.p * claims) if known else None,
        ci_low_adjusted=adjusted.ci_low if known else None,
        ci_high_adjusted=adjusted.ci_high if known else None,
        n=items,
        clusters=one.clusters,
        unit=find_metric(name.partition("#")[0]).unit,
        better=None,
    )
