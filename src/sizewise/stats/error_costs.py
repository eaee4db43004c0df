"""Decisions from the costs of errors: the cheapest action, what it costs, and the best threshold.

Source: Elkan (2001), The foundations of cost-sensitive learning, for the expected-cost rule; Chow (1970), On optimum
recognition error and reject tradeoff, for handing cases over at a price.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sizewise.stats.inference import FloatArray, IntArray, Interval, estimate

PER = 1_000
"""Costs are for so many decisions."""
HAND_OVER = -1
"""Action of handing a case over to people."""


class Threshold(NamedTuple):
    """The probability from which the positive class is chosen."""

    threshold: float
    """Chosen on the given cases, as the middle of the range with the same minimum cost."""
    cost: float
    """Cost of 1,000 decisions on the cases that it was chosen on."""
    by_costs: float
    """Threshold that the costs alone imply for perfectly calibrated probabilities."""


class RatioPoint(NamedTuple):
    """One point of the curve of the cost over the ratio of the two error costs."""

    ratio: float
    """Cost of a false negative divided by that of a false positive."""
    threshold: float
    cost: Interval
    """Cost of 1,000 decisions; the two error costs sum to 1."""
    cost_always_positive: float
    cost_always_negative: float


def cheapest_actions(probabilities: FloatArray, costs: FloatArray, hand_over: float | None = None) -> IntArray:
    """Choose the action with the lowest expected cost for each case.

    Args:
        probabilities: (items, classes) calibrated probabilities.
        costs: (classes, classes) cost of deciding the column if the row is correct.
        hand_over: price of handing a case over to people, who decide correctly; None if they aren't available.

    Returns:
        (items,) index of the class, or HAND_OVER. Of equally cheap actions the first one, and a class before a
        hand-over.
    """
    expected = probabilities @ costs
    actions: IntArray = np.asarray(expected.argmin(axis=1), dtype=np.int64)
    if hand_over is not None:
        actions[expected.min(axis=1) > hand_over] = HAND_OVER
    return actions


def costs_of(labels: IntArray, actions: IntArray, costs: FloatArray, hand_over: float | None = None) -> FloatArray:
    """Look up what each action costs, given the correct class, (items,)."""
    found: FloatArray = costs[labels, actions].astype(np.float64)
    found[actions == HAND_OVER] = np.nan if hand_over is None else hand_over
    return found


def mean_cost(item_costs: FloatArray, clusters: Sequence[str]) -> Interval:
    """Estimate the cost of 1,000 decisions with its interval by cluster."""
    stats = np.column_stack([item_costs, np.ones(len(item_costs))])
    ends = float(item_costs.min()), float(item_costs.max())
    bounds = (min(0.0, ends[0]), ends[1] if ends[1] > ends[0] else np.inf)
    found = estimate(stats, clusters, lambda sums: sums[..., 0] / sums[..., 1], bounds)
    return Interval(*(PER * value for value in found))


def best_threshold(
    probabilities: FloatArray, positives: IntArray, false_positive: float, false_negative: float
) -> Threshold:
    """Choose the threshold with the lowest cost on given cases, such as those of the validation split.

    Args:
        probabilities: (items,) probability of the positive class.
        positives: (items,) 1 if the positive class is correct, else 0.
        false_positive: cost of deciding positive wrongly.
        false_negative: cost of deciding negative wrongly.
    """
    order = np.argsort(probabilities, kind="stable")
    stated, hits = probabilities[order], positives[order].astype(np.float64)
    # Cost if the first k cases, in ascending order, are decided negative and all others positive.
    wrong_negative = np.concatenate([[0.0], np.cumsum(hits)])
    wrong_positive = (1 - hits).sum() - np.concatenate([[0.0], np.cumsum(1 - hits)])
    totals = false_negative * wrong_negative + false_positive * wrong_positive
    possible = np.concatenate([[True], stated[1:] > stated[:-1], [True]])
    cheapest = totals[possible].min()
    cuts = np.flatnonzero(possible & (totals <= cheapest + 1e-9 * max(1.0, abs(cheapest))))
    by_costs = false_positive / (false_positive + false_negative)
    ranges = [(stated[k - 1] if k else 0.0, stated[k] if k < len(stated) else 1.0) for k in cuts]
    threshold = min((_within(by_costs, *ends) for ends in ranges), key=lambda value: abs(value - by_costs))
    return Threshold(threshold, PER * float(cheapest) / max(1, len(stated)), by_costs)


def _within(wanted: float, lower: float, upper: float) -> float:
    """Return the wanted value if it is in a range, else the middle of the range."""
    return float(wanted) if lower < wanted <= upper else float((lower + upper) / 2)


def cost_curve(
    chosen_on: tuple[FloatArray, IntArray] | None,
    probabilities: FloatArray,
    positives: IntArray,
    clusters: Sequence[str],
    ratios: Sequence[float],
) -> list[RatioPoint]:
    """Compute the cost of 1,000 decisions over the ratio of two error costs.

    Args:
        chosen_on: probabilities and positives that thresholds are chosen on; None takes those that the costs imply.
        probabilities: (items,) probability of the positive class in the cases that the cost is measured on.
        positives: (items,) 1 if the positive class is correct, else 0.
        clusters: cluster name of each item.
        ratios: cost of a false negative divided by that of a false positive.
    """
    share = float(positives.mean())
    points = []
    for ratio in ratios:
        false_positive, false_negative = 1 / (1 + ratio), ratio / (1 + ratio)
        threshold = false_positive
        if chosen_on is not None:
            threshold = best_threshold(*chosen_on, false_positive, false_negative).threshold
        decided = probabilities >= threshold
        wrong = decided & (positives == 0), ~decided & (positives == 1)
        cost = mean_cost(false_positive * wrong[0] + false_negative * wrong[1], clusters)
        points.append(
            RatioPoint(ratio, threshold, cost, PER * false_positive * (1 - share), PER * false_negative * share)
        )
    return points
