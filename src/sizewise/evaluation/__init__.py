"""Measure a model on a dataset or on a suite, and keep every item."""

from sizewise.evaluation.asked import AskedAs, asked_as
from sizewise.evaluation.measuring import AnswerOptions, default_metrics, evaluate
from sizewise.evaluation.suite_run import evaluate_suite
from sizewise.evaluation.suites import SUITES
from sizewise.evaluation.together import ask_together

__all__ = [
    "SUITES",
    "AnswerOptions",
    "AskedAs",
    "ask_together",
    "asked_as",
    "default_metrics",
    "evaluate",
    "evaluate_suite",
]
