"""Measures. A metric never sees a model: it gets items and gives additive statistics and their total."""

from sizewise.metrics.base import (
    AnswerItem,
    CannotMeasure,
    ChoiceItem,
    LikelihoodItem,
    Mean,
    Metric,
    stats_array,
    total,
)
from sizewise.metrics.registry import METRICS, find_metric, metric_names, stands_for_quality

__all__ = [
    "METRICS",
    "AnswerItem",
    "CannotMeasure",
    "ChoiceItem",
    "LikelihoodItem",
    "Mean",
    "Metric",
    "find_metric",
    "metric_names",
    "stands_for_quality",
    "stats_array",
    "total",
]
