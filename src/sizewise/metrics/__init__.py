"""Metrics. A metric never sees a model: it turns items into additive statistics, and their sum into a value."""

from sizewise.metrics.base import (
    AnswerItem,
    CannotMeasure,
    ChoiceItem,
    LikelihoodItem,
    Mean,
    Metric,
    ReferenceSet,
    check_language,
    stats_array,
    total,
)
from sizewise.metrics.registry import METRICS, find_metric, metric_names, metric_versions, stands_for_quality

__all__ = [
    "METRICS",
    "AnswerItem",
    "CannotMeasure",
    "ChoiceItem",
    "LikelihoodItem",
    "Mean",
    "Metric",
    "ReferenceSet",
    "check_language",
    "find_metric",
    "metric_names",
    "metric_versions",
    "stands_for_quality",
    "stats_array",
    "total",
]
