"""Measure a model on a dataset or on a suite, and keep every item."""

from sizewise.evaluation.run import AnswerOptions, default_metrics, evaluate
from sizewise.evaluation.suite_run import evaluate_suite
from sizewise.evaluation.suites import SUITES

__all__ = [
    "SUITES",
    "AnswerOptions",
    "default_metrics",
    "evaluate",
    "evaluate_suite",
]
