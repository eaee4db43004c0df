"""Which examples are decisions: their label is their answer."""

from __future__ import annotations

from sizewise.records import Example
from sizewise.text import fold_text

MIN_LABELED_SHARE = 0.95
"""Share of the answered examples that need a label: a few rows without one don't make the data something else."""


def is_labeled(example: Example) -> bool:
    """Check whether the example's label is its reference answer."""
    return bool(example.label) and fold_text(example.label) in map(fold_text, example.references)
