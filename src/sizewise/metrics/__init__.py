"""Measures. A metric never sees a model: it gets items and gives additive statistics and their total."""

from sizewise.metrics.base import AnswerItem, LikelihoodItem, Metric, stats_array, total
from sizewise.metrics.registry import METRICS, find_metric

__all__ = ["METRICS", "AnswerItem", "LikelihoodItem", "Metric", "find_metric", "stats_array", "total"]
