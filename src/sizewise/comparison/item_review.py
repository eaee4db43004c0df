"""review_items(): items whose reference answer deserves a look, and a few items that stand for all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from sizewise.errors import SizewiseError, UsageError
from sizewise.metrics import Metric, find_metric, stats_array
from sizewise.metrics.base import Mean
from sizewise.records import AnchorSubset, Comparison, ItemAnalysis, ItemRow, ReviewedItem
from sizewise.records.items import ReviewReason
from sizewise.stats.items import (
    MIN_CANDIDATES,
    MIN_HELD_OUT,
    FloatArray,
    anchor_count,
    anchor_error,
    choose_anchors,
    discrimination,
    reversal_p,
    smallest_p,
)
from sizewise.stats.multiplicity import false_discovery
from sizewise.store import Saved, Store, id_of
from sizewise.text import fold_text

BoolArray = npt.NDArray[np.bool_]
ITEM_METRICS = ("accuracy", "choice_accuracy", "json_f1", "field_f1", "chrf", "token_f1", "rouge_l", "exact_match")
"""Metrics with a value on single items, in the order of preference. BLEU is left out: on one answer it's mostly 0."""
CORPUS_METRICS_BY_ITEM = ("chrf", "ter")
FALSE_DISCOVERIES = 0.1
"""Maximum expected share of sound items among those called suspicious."""
MAX_REVIEW = 10
_ORDER: dict[ReviewReason, int] = {"negative discrimination": 0, "failed by all": 1, "inconclusive": 2}
_RANGES = {"share": 1.0, "0-100": 100.0}


def review_items(
    comparison: str | Saved[Comparison],
    *,
    metric: str | None = None,
    limit: int = MAX_REVIEW,
    store: Store | None = None,
    seed: int = 0,
) -> ItemAnalysis:
    """Find the items of a comparison that a person should review.

    Args:
        comparison: a comparison or its id.
        metric: metric with a value on single items; by default the first measured one of ITEM_METRICS.
        limit: maximum number of items to list.
        store: where records live; by default SIZEWISE_HOME.
        seed: seed of the permutations.

    Raises:
        UsageError: the metric wasn't measured, or has no value on single items.
        SizewiseError: no metric has a value on single items, or the candidates share too few items.
    """
    store = store or Store()
    comparison_id = id_of(comparison)
    record = store.read(Comparison, comparison_id)
    rows: dict[str, Sequence[ItemRow]] = {
        name: store.read_rows(store.folder("evaluation", evaluation), "items.jsonl", ItemRow)
        for name, evaluation in record.evaluations.items()
        if record.models[name].role == "candidate"
    }
    return analyze_items(rows, comparison_id, metric=metric, limit=limit, seed=seed)


def analyze_items(
    rows: Mapping[str, Sequence[ItemRow]],
    comparison: str,
    *,
    metric: str | None = None,
    limit: int = MAX_REVIEW,
    seed: int = 0,
) -> ItemAnalysis:
    """Analyze the items that all candidates share; pure.

    Args:
        rows: candidate -> its items.
        comparison: id of the comparison.
        metric: as in `review_items`.
        limit: maximum number of items to list.
        seed: seed of the permutations.

    Raises:
        UsageError: as in `review_items`.
        SizewiseError: as in `review_items`.
    """
    chosen = _item_metric(rows, metric)
    shared = _shared_items(rows, chosen.name)
    values = {name: np.asarray(chosen.value(stats_array(chosen, items)), dtype=float) for name, items in shared.items()}
    known = np.isfinite(np.stack(list(values.values()))).all(axis=0)
    if known.sum() < 2:
        raise SizewiseError(
            f"The candidates share {known.sum()} uncontaminated items with {chosen.title}.",
            "two or more common items",
            "sizewise evaluate MODEL --data ID for each candidate, with the same limit and seed",
        )
    sign = 1.0 if chosen.better == "higher" else -1.0
    names = sorted(values, key=lambda name: -sign * float(values[name][known].mean()))
    items = {name: [row for row, kept in zip(shared[name], known, strict=True) if kept] for name in names}
    scores = np.column_stack([values[name][known] for name in names])
    return _analysis(items, scores, chosen, comparison, limit, seed)


def _analysis(
    items: Mapping[str, Sequence[ItemRow]], scores: FloatArray, metric: Metric, comparison: str, limit: int, seed: int
) -> ItemAnalysis:
    """Build the record from complete scores, (items, candidates), of candidates ordered by quality."""
    sign = 1.0 if metric.better == "higher" else -1.0
    top = _RANGES.get(metric.unit)
    best, worst = (top, 0.0) if sign > 0 else (0.0, top)
    passed = None if top is None else (scores == best).all(axis=1)
    failed = None if top is None else (scores == worst).all(axis=1)
    correlation = discrimination(sign * scores)
    tested = np.isfinite(correlation)
    p, adjusted = np.full(len(scores), np.nan), np.full(len(scores), np.nan)
    if tested.any():
        p[tested] = reversal_p(sign * scores, seed)[tested]
        adjusted[tested] = false_discovery(p[tested])
    suspicious = np.nan_to_num(adjusted, nan=1.0) <= FALSE_DISCOVERIES
    found = [
        _reviewed(items, scores[i], sign, i, reason, (correlation[i], p[i], adjusted[i]))
        for i, reason in _reasons(correlation, p, suspicious, failed).items()
    ]
    # Items come first where the failing candidates agree on another answer; items that merely are hard come last.
    found.sort(key=lambda one: _ORDER[one.reason] + 2 * (one.reason == "failed by all" and not one.common_answer))
    return ItemAnalysis(
        comparison=comparison,
        metric=metric.name,
        unit=metric.unit,
        n=len(scores),
        candidates=tuple(items),
        passed_by_all=None if passed is None else int(passed.sum()),
        failed_by_all=None if failed is None else int(failed.sum()),
        suspicious=int(suspicious.sum()),
        review=tuple(found[:limit]),
        anchors=_anchors([row.item for row in next(iter(items.values()))], scores, seed),
        notes=tuple(_notes(scores.shape[1], int(tested.sum()))),
    )


def _reasons(
    correlation: FloatArray, p: FloatArray, suspicious: BoolArray, failed: BoolArray | None
) -> dict[int, ReviewReason]:
    """List the items to review, by index: the most negative discriminations first."""
    found: dict[int, ReviewReason] = {}
    for i in np.flatnonzero(suspicious)[np.argsort(p[suspicious], kind="stable")]:
        found[int(i)] = "negative discrimination"
    for i in np.flatnonzero(failed) if failed is not None else ():
        found.setdefault(int(i), "failed by all")
    negative = np.nan_to_num(correlation, nan=0.0) < 0
    for i in np.flatnonzero(negative)[np.argsort(correlation[negative], kind="stable")]:
        found.setdefault(int(i), "inconclusive")
    return found


def _reviewed(
    items: Mapping[str, Sequence[ItemRow]],
    scores: FloatArray,
    sign: float,
    index: int,
    reason: ReviewReason,
    tested: tuple[float, float, float],
) -> ReviewedItem:
    by_name = {name: float(score) for name, score in zip(items, scores, strict=True)}
    middle = (scores.max() + scores.min()) / 2
    apart = reason != "failed by all" and scores.max() > scores.min()
    passed = tuple(name for name, score in by_name.items() if apart and sign * score > sign * middle)
    failed = tuple(name for name in by_name if name not in passed)
    row = next(iter(items.values()))[index]
    answers = Counter(
        fold_text(completion) for name in failed if (completion := (items[name][index].completion or "").strip())
    )
    answer, count = next(iter(answers.most_common(1)), ("", 0))
    common = next(
        (text for name in failed if fold_text(text := (items[name][index].completion or "").strip()) == answer), None
    )
    agreed = count >= 2 and 2 * count > len(failed)
    correlation, p, adjusted = (None if np.isnan(one) else float(one) for one in tested)
    return ReviewedItem(
        item=row.item,
        cluster=row.cluster,
        prompt=row.prompt,
        references=row.references,
        reason=reason,
        scores=by_name,
        passed=passed,
        failed=failed,
        difficulty=float(scores.mean()),
        discrimination=correlation,
        p=p,
        p_adjusted=adjusted,
        common_answer=common if agreed else None,
        common_answer_by=count if agreed else 0,
    )


def _item_metric(rows: Mapping[str, Sequence[ItemRow]], wanted: str | None) -> Metric:
    """Find the metric to analyze."""
    measured = {name for items in rows.values() for row in items if row.kind != "passage" for name in row.stats}
    possible = [name for name in ITEM_METRICS if name in measured]
    if wanted is None:
        if not possible:
            raise SizewiseError(
                "None of the measured metrics has a value on single items.",
                ", ".join(ITEM_METRICS),
                "sizewise evaluate MODEL --data ID --metrics chrf",
            )
        return find_metric(possible[0])
    metric = find_metric(wanted)
    if wanted not in measured:
        raise UsageError(
            f"{metric.title} wasn't measured on these items.",
            ", ".join(sorted(measured)),
            f"sizewise evaluate MODEL --data ID --metrics {wanted}",
        )
    if type(metric).value is not Mean.value and wanted not in CORPUS_METRICS_BY_ITEM:
        raise UsageError(
            f"{metric.title} has no value on single items.",
            ", ".join(possible) or "chrf",
            "sizewise evaluate MODEL --data ID --metrics chrf",
        )
    return metric


def _shared_items(rows: Mapping[str, Sequence[ItemRow]], metric: str) -> dict[str, list[ItemRow]]:
    """Keep the uncontaminated items that every candidate was measured on, in one order."""
    by_item = {
        name: {row.item: row for row in items if row.uncontaminated and row.kind != "passage" and metric in row.stats}
        for name, items in rows.items()
    }
    first = next(iter(by_item.values()), {})
    shared = [item for item in first if all(item in found for found in by_item.values())]
    if not shared:
        raise SizewiseError(
            f"No uncontaminated item was measured with {metric} on every candidate.",
            "evaluations of the same items",
            "sizewise evaluate MODEL --data ID for each candidate, with the same limit and seed",
        )
    return {name: [found[item] for item in shared] for name, found in by_item.items()}


def _anchors(names: Sequence[str], scores: FloatArray, seed: int) -> AnchorSubset | None:
    count = anchor_count(len(scores))
    if not count:
        return None
    anchors = choose_anchors(scores, count, seed)
    chosen = {names[i]: float(weight) for i, weight in zip(anchors.items, anchors.weights, strict=True)}
    if scores.shape[1] < MIN_HELD_OUT:
        reason = f"the error is measured on candidates left out, which takes {MIN_HELD_OUT} or more"
        return AnchorSubset(items=chosen, error=None, largest_error=None, random_error=None, missing_reason=reason)
    error = anchor_error(scores, count, seed)
    return AnchorSubset(items=chosen, error=error.mean, largest_error=error.largest, random_error=error.random)


def _notes(candidates: int, items: int) -> list[str]:
    """Explain what this number of candidates can show about single items."""
    if candidates < MIN_CANDIDATES:
        return [
            f"discrimination takes {MIN_CANDIDATES} or more candidates; there are {candidates}, so only items that all "
            "of them fail are listed"
        ]
    if items and smallest_p(candidates) * items > FALSE_DISCOVERIES:
        return [
            f"{candidates} candidates can't show beyond chance that a single one of {items} items has a wrong "
            "reference answer; read the list as a suggestion"
        ]
    return []
