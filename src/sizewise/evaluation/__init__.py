"""Measure a model on a dataset and keep every item."""

from sizewise.evaluation.measuring import DEFAULT_METRICS, evaluate

__all__ = ["DEFAULT_METRICS", "evaluate"]
