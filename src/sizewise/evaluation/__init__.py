"""Measure a model on a dataset and keep every item."""

from sizewise.evaluation.measuring import default_metrics, evaluate

__all__ = ["default_metrics", "evaluate"]
