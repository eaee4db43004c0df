"""Evaluations side by side; opens no model."""

from sizewise.comparison.comparing import compare, differences
from sizewise.comparison.history import history
from sizewise.comparison.requiring import Requirement, as_junit, as_markdown, check_requirements

__all__ = ["Requirement", "as_junit", "as_markdown", "check_requirements", "compare", "differences", "history"]
