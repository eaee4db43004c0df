"""Which cases a classifier decides itself, and which it hands over, at a stated share of wrong decisions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sizewise.errors import UsageError
from sizewise.records import CoveragePoint, DecisionCoverage, Score
from sizewise.routing.labeled import Array, IntArray
from sizewise.stats.inference import FloatArray, estimate
from sizewise.stats.selective import Coverage, choose_coverage, min_decided_for, risk_coverage

CURVE_POINTS = 51
SIGNATURE = "top option|fixed sequence|95%"


def decide_coverage(
    probabilities: npt.ArrayLike, labels: npt.ArrayLike, max_error: float, clusters: Sequence[str] | None = None
) -> DecisionCoverage:
    """Choose the confidence from which on a classifier decides itself, so that few of its decisions are wrong.

    The threshold holds with 95 % confidence for cases like these. The probabilities should be calibrated, but the
    guarantee doesn't depend on it.

    Args:
        probabilities: (items, options) probabilities of validation items, which the classifier was not trained on.
        labels: (items,) column of each item's correct option.
        max_error: largest acceptable share of wrong decisions among those made, for example 0.01.
        clusters: source document or distinct text of each item; None: all items are independent.

    Raises:
        UsageError: the share is not between 0 and 1, or the arrays don't fit together.
    """
    table, correct = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    if not 0 < max_error < 1:
        raise UsageError(f"The share of wrong decisions must be between 0 and 1, not {max_error}.", "such as 0.01", "")
    fits = table.ndim == 2 and table.shape[0] == len(correct) > 0 and len(clusters or correct) == len(correct)
    if not fits or not np.isfinite(table).all():
        raise UsageError(
            f"Probabilities of shape {table.shape} don't fit {len(correct)} labels.",
            "one row of finite probabilities for each label and cluster",
            "",
        )
    names = [str(i) for i in range(len(correct))] if clusters is None else list(clusters)
    confidence, wrong = table.max(axis=1), (table.argmax(axis=1) != correct).astype(np.float64)
    chosen = choose_coverage(confidence, wrong, max_error, names)
    curve = risk_coverage(confidence, wrong)
    places = np.unique(np.linspace(0, len(curve.coverage) - 1, CURVE_POINTS).round().astype(np.int64))
    return DecisionCoverage(
        max_error=max_error,
        threshold=None if chosen is None else chosen.threshold,
        coverage=_score("coverage", confidence, wrong, names, chosen, max_error),
        error=_score("error", confidence, wrong, names, chosen, max_error),
        error_bound=None if chosen is None else chosen.risk_upper,
        items=len(correct),
        clusters=len(set(names)),
        area=curve.area,
        curve=tuple(_point(curve.thresholds, curve.coverage, curve.risk, int(place)) for place in places),
    )


def _point(thresholds: Array, coverage: Array, risk: Array, place: int) -> CoveragePoint:
    return CoveragePoint(threshold=float(thresholds[place]), coverage=float(coverage[place]), error=float(risk[place]))


def _score(
    name: str, confidence: Array, wrong: Array, clusters: list[str], chosen: Coverage | None, max_error: float
) -> Score:
    """Score the share of decided items, or of wrong ones among them, with an interval by cluster."""
    count, documents = len(wrong), len(set(clusters))
    if chosen is None:
        least = min_decided_for(max_error)
        reason = (
            f"no threshold keeps wrong decisions at {max_error:.1%} with 95 % confidence on {documents} independent "
            f"cases; that takes at least {least} decisions without an error"
        )
        return Score(metric=name, n=count, unit="share", signature=SIGNATURE, clusters=documents, missing_reason=reason)
    decided = (confidence >= chosen.threshold).astype(np.float64)
    rows: IntArray = np.flatnonzero(decided if name == "error" else np.ones(count))
    hits = wrong[rows] if name == "error" else decided
    stats = np.column_stack([hits, np.ones(len(rows))])
    names = [clusters[row] for row in rows]
    value, ci_low, ci_high = estimate(stats, names, _ratio, (0.0, 1.0))
    known = bool(np.isfinite(ci_low))
    return Score(
        metric=name,
        value=value,
        ci_low=ci_low if known else None,
        ci_high=ci_high if known else None,
        n=len(rows),
        unit="share",
        signature=SIGNATURE,
        clusters=len(set(names)),
    )


def _ratio(sums: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        found: FloatArray = sums[..., 0] / sums[..., 1]
    return found
