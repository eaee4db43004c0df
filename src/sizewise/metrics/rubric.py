"""Grades of a judge model by the criteria of a rubric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sizewise.metrics.base import CannotMeasure, Mean, Metric, Needs

RUBRIC_GRADE = "rubric_grade"
PREFIX = f"{RUBRIC_GRADE}:"


class RubricGrade(Mean):
    """Mean grade of a judge model by a rubric, on all criteria or on one.

    Args:
        criterion: the criterion; empty for the mean of all.
    """

    stands_for_quality = False
    needs_references = False
    family_of_its_own = True
    needs: Needs = "judge"

    def __init__(self, criterion: str = "") -> None:
        self.name = f"{PREFIX}{criterion}" if criterion else RUBRIC_GRADE
        self.title = f"Rubric: {criterion}" if criterion else "Rubric grade"
        about = f"on the criterion {criterion}" if criterion else "on all criteria of a rubric, each with equal weight"
        self.description = (
            f"Mean grade that a judge model gave {about}; 0 is the worst grade of the scale and 1 the best. Higher is "
            "better in the judge's view. It isn't validated on people: without people's grades of some answers it "
            "decides nothing, and with them it makes their estimate more precise."
        )

    def prepared(self, references: Sequence[tuple[str, ...]]) -> Metric:
        """Return the metric unchanged."""
        return self

    def measure(self, item: Any) -> tuple[float, ...]:
        """Refuse: a judge model gives the grade.

        Raises:
            CannotMeasure: always.
        """
        raise CannotMeasure("a judge model gives the grade (--rubric FILE --judge URI)")
