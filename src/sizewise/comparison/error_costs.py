"""What decisions cost: the costs that a domain expert states, applied to validation and test cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sizewise.comparison.decided import CostRules, Decided, as_score, label_places
from sizewise.errors import UsageError
from sizewise.records.decision_analysis import CostCells, CostFigures, CostPoint
from sizewise.stats.error_costs import (
    HAND_OVER,
    PER,
    best_threshold,
    cheapest_actions,
    cost_curve,
    costs_of,
    mean_cost,
)
from sizewise.stats.inference import FloatArray, IntArray, estimate

RATIOS = tuple(float(ratio) for ratio in np.round(np.logspace(-2, 2, 17), 4))
MIN_COST, MAX_COST = 1e-9, 1e12
"""Sizes of costs that sums and shares can be computed with."""
STEPS = 1_000
"""A page computes with probabilities in thousandths."""


def cost_matrix(labels: Sequence[str], costs: Mapping[str, Mapping[str, float]] | None) -> FloatArray | None:
    """Arrange stated costs as a matrix: rows are correct labels, columns decided ones.

    Raises:
        UsageError: a label is unknown, a cost is out of range, an error costs less than the correct decision, or a
            correct decision costs as much as a wrong one everywhere.
    """
    if costs is None:
        return None
    place = label_places(labels)
    matrix = 1.0 - np.eye(len(labels))
    for correct, row in costs.items():
        for decided, cost in row.items():
            row_of, column_of = place(correct), place(decided)
            if row_of is None or column_of is None:
                unknown = correct if row_of is None else decided
                raise UsageError(
                    f"The costs name the label '{unknown}', which the decisions don't have.",
                    ", ".join(labels[:20]),
                    "use the labels of the data in the cost file",
                )
            if not (cost == 0 or MIN_COST <= abs(cost) <= MAX_COST):
                raise UsageError(
                    f"Deciding '{decided}' for '{correct}' costs {cost:g}.",
                    f"0, or a size between {MIN_COST:g} and {MAX_COST:g}",
                    "state the costs in another unit",
                )
            matrix[row_of, column_of] = cost
    cheaper = np.argwhere(matrix < np.diag(matrix)[:, None])
    if len(cheaper):
        row, column = cheaper[0]
        raise UsageError(
            f"Deciding '{labels[column]}' costs {matrix[row, column]:g} where '{labels[row]}' is correct, less than "
            f"the correct decision ({matrix[row, row]:g}).",
            "errors that cost at least as much as the correct decision; 1 if no cost is stated",
            "state a benefit as a negative cost of the correct decision, CORRECT:CORRECT=-COST",
        )
    if not (matrix.min(axis=1) < matrix.max(axis=1)).any():
        raise UsageError(
            "Every decision costs the same, whatever is correct.",
            "errors that cost more than correct decisions",
            "state what errors cost: --cost CORRECT:DECIDED=COST",
        )
    return matrix


def chosen_actions(test: Decided, matrix: FloatArray | None, rules: CostRules) -> IntArray:
    """Decide each case: by its expected cost if costs are stated, else the most likely label."""
    if matrix is None:
        return test.likeliest
    return cheapest_actions(test.probabilities, matrix, rules.hand_over)


def cost_figures(
    test: Decided, held_out: Decided, labels: Sequence[str], positive: int | None, rules: CostRules
) -> CostFigures:
    """Compute what decisions cost under the stated costs."""
    matrix = cost_matrix(labels, rules.costs)
    assert matrix is not None
    actions = cheapest_actions(test.probabilities, matrix, rules.hand_over)
    n = len(test.items)
    unit = {"unit": f"per {PER:,} decisions"}
    paid = costs_of(test.correct, actions, matrix, rules.hand_over)
    expected = (test.probabilities @ matrix).min(axis=1)
    if rules.hand_over is not None:
        expected = np.minimum(expected, rules.hand_over)
    handed = (actions == HAND_OVER).astype(np.float64)
    share = estimate(
        np.column_stack([handed, np.ones(n)]), test.clusters, lambda sums: sums[..., 0] / sums[..., 1], (0.0, 1.0)
    )
    likeliest = costs_of(test.correct, test.likeliest, matrix)
    always = {label: float(matrix[test.correct, i].mean()) for i, label in enumerate(labels)}
    if rules.hand_over is not None:
        always["hand over every case"] = rules.hand_over
    cheapest = min(always, key=lambda action: always[action])
    return CostFigures(
        labels=tuple(labels),
        matrix=tuple(tuple(map(float, row)) for row in matrix),
        hand_over=rules.hand_over,
        cost=as_score("cost", mean_cost(paid, test.clusters), n, **unit),
        expected=PER * float(expected.mean()),
        handed_over=as_score("handed_over", share, n),
        most_likely=as_score("cost", mean_cost(likeliest, test.clusters), n, **unit),
        without_model=PER * always[cheapest],
        without_model_action=cheapest,
        **_threshold(test, held_out, matrix, positive),
    )


def _threshold(test: Decided, held_out: Decided, matrix: FloatArray, positive: int | None) -> dict[str, object]:
    """Choose the threshold of the positive label on validation cases and measure it on test cases; two labels only."""
    empty: dict[str, object] = {"threshold": None, "threshold_cost": None, "threshold_by_costs": None}
    if positive is None or len(matrix) != 2:
        return empty
    negative = 1 - positive
    # What an error costs beyond the correct decision; only this matters for the choice.
    wrong_positive = float(matrix[negative, positive] - matrix[negative, negative])
    wrong_negative = float(matrix[positive, negative] - matrix[positive, positive])
    if min(wrong_positive, wrong_negative) <= 0:
        return empty
    chosen_on = None
    if len(held_out.items):
        chosen_on = (held_out.probabilities[:, positive], (held_out.correct == positive).astype(np.int64))
    stated, hits = test.probabilities[:, positive], (test.correct == positive).astype(np.int64)
    by_costs = wrong_positive / (wrong_positive + wrong_negative)
    threshold = by_costs if chosen_on is None else best_threshold(*chosen_on, wrong_positive, wrong_negative).threshold
    actions = np.where(stated >= threshold, positive, negative).astype(np.int64)
    n, unit = len(hits), f"per {PER:,} decisions"
    points = cost_curve(chosen_on, stated, hits, test.clusters, RATIOS)
    return {
        "threshold": threshold,
        "threshold_cost": as_score(
            "cost", mean_cost(costs_of(test.correct, actions, matrix), test.clusters), n, unit=unit
        ),
        "threshold_by_costs": by_costs,
        "curve": tuple(
            CostPoint(
                ratio=one.ratio,
                threshold=one.threshold,
                cost=as_score("cost", one.cost, n, unit=unit),
                cost_always_positive=one.cost_always_positive,
                cost_always_negative=one.cost_always_negative,
            )
            for one in points
        ),
    }


def cost_cells(test: Decided, held_out: Decided, labels: Sequence[str], positive: int | None) -> CostCells:
    """Count cases by probability, so that a page can compute costs for any prices."""
    binary = positive is not None and len(labels) == 2
    parts = {}
    for name, cases in (("validation", held_out), ("test", test)):
        stated = cases.probabilities[:, positive] if binary else cases.confidence
        hits = (cases.correct == positive).astype(np.int64) if binary else cases.is_correct.astype(np.int64)
        parts[name] = _cells(stated, hits) if len(cases.items) else ()
    wrong = 1 - test.is_correct
    return CostCells(
        kind="binary" if binary else "confidence",
        positive=labels[positive] if binary and positive is not None else "",
        negative=labels[1 - positive] if binary and positive is not None else "",
        validation=parts["validation"],
        test=parts["test"],
        design_effect=_design_effect(wrong, test.clusters),
    )


def _cells(stated: FloatArray, hits: IntArray) -> tuple[tuple[int, int, int], ...]:
    places = np.clip(np.rint(STEPS * stated), 0, STEPS).astype(np.int64)
    counts = np.zeros((STEPS + 1, 2), dtype=np.int64)
    np.add.at(counts, (places, hits), 1)
    return tuple((int(i), int(counts[i, 0]), int(counts[i, 1])) for i in np.flatnonzero(counts.sum(axis=1)))


def _design_effect(values: FloatArray, clusters: Sequence[str]) -> float:
    """Compute how much clusters widen the variance of a mean, compared with independent items; at least 1."""
    _, place = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
    centered = values - values.mean()
    total = float(np.square(centered).sum())
    return max(1.0, float(np.square(np.bincount(place, weights=centered)).sum()) / total) if total > 0 else 1.0
