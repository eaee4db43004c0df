"""Evaluations side by side; opens no model."""

from sizewise.comparison.comparing import compare

__all__ = ["compare"]
