"""Evaluates a model on a dataset or a benchmark suite, and keeps the statistics of every item."""

from sizewise.evaluation.inputs import default_metrics
from sizewise.evaluation.options import EvaluationOptions, Until
from sizewise.evaluation.run import evaluate
from sizewise.evaluation.suite_run import evaluate_suite
from sizewise.evaluation.suites import SUITES

__all__ = [
    "SUITES",
    "EvaluationOptions",
    "Until",
    "default_metrics",
    "evaluate",
    "evaluate_suite",
]
