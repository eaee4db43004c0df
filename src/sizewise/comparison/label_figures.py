"""Figures of single labels, and the reliability diagram."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sizewise.comparison.decided import Decided, as_score
from sizewise.records.decision_analysis import LabelFigures, ReliabilityBin
from sizewise.stats.calibration import calibration_error, reliability_bins
from sizewise.stats.decision_curves import (
    JACKKNIFE_GROUPS,
    ClassFigures,
    average_precision,
    class_figures,
    jackknife_area,
    roc_area_interval,
)
from sizewise.stats.inference import FloatArray, IntArray, Interval

MAX_CURVES = 6
"""Labels up to which each gets its own curves."""
_QUICK_GROUPS = 40


def label_table(test: Decided, actions: IntArray, labels: Sequence[str]) -> tuple[LabelFigures, ...]:
    """Compute the figures of each label."""
    found = class_figures(actions, test.correct, test.clusters, len(labels))
    return tuple(label_figures(test, i, labels, one) for i, one in enumerate(found))


def label_figures(test: Decided, number: int, labels: Sequence[str], found: ClassFigures) -> LabelFigures:
    """Compute the figures of one label against the rest."""
    stated, hits = test.probabilities[:, number], (test.correct == number).astype(np.int64)
    n, both = len(hits), 0 < found.n < len(hits)
    one_kind = "all test cases are of this label" if found.n else "no test case is of this label"
    most = JACKKNIFE_GROUPS if len(labels) <= MAX_CURVES else _QUICK_GROUPS
    error = calibration_error(stated, hits.astype(np.float64), test.clusters)
    return LabelFigures(
        label=labels[number],
        n=found.n,
        decided=found.predicted,
        precision=as_score("precision", found.precision, found.predicted, reason="never decided"),
        recall=as_score("recall", found.recall, found.n, reason="no test case is of this label"),
        f1=as_score("f1", found.f1, n, reason="neither decided nor correct"),
        roc_auc=as_score(
            "roc_auc", roc_area_interval(stated, hits, test.clusters) if both else None, n, reason=one_kind
        ),
        average_precision=as_score(
            "average_precision",
            jackknife_area(average_precision, stated, hits, test.clusters, most) if both else None,
            n,
            reason=one_kind,
        ),
        calibration_error=as_score("calibration_error", Interval(*error[:3]), n),
    )


def interval_ends(found: Interval) -> tuple[float | None, float | None]:
    """Return the ends of an interval; None where there are too few source documents."""
    known = np.isfinite(found.ci_low) and np.isfinite(found.ci_high)
    return (float(found.ci_low), float(found.ci_high)) if known else (None, None)


def reliability_diagram(stated: FloatArray, hits: FloatArray, clusters: Sequence[str]) -> tuple[ReliabilityBin, ...]:
    """Compute the points of a reliability diagram."""
    found = []
    for one in reliability_bins(stated, hits, clusters):
        ci_low, ci_high = interval_ends(one.success)
        found.append(
            ReliabilityBin(
                lower=one.lower, upper=one.upper, n=one.n, confidence=one.confidence, accuracy=one.success.value,
                ci_low=ci_low, ci_high=ci_high,
            )
        )  # fmt: skip
    return tuple(found)
