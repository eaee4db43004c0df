"""Grades that people gave to answers, on one scale from 0 to 1."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sizewise.metrics.base import AnswerItem, CannotMeasure, Mean

HUMAN_GRADE = "human_grade"
_SCALES: tuple[tuple[float, float], ...] = ((0, 1), (1, 5), (0, 5), (1, 7), (0, 10), (0, 100))


def scale_of(grades: Collection[float]) -> tuple[float, float] | None:
    """Return the lowest and highest grade of the smallest usual scale that holds all grades; None if none does.

    A scale without 0 is taken only if the grades need it: right and wrong are 0 and 1.
    """
    if not grades:
        return None
    lowest, highest = min(grades), max(grades)
    return next((scale for scale in _SCALES if scale[0] <= lowest and highest <= scale[1]), None)


def common_scale(grades: Mapping[str, Collection[float]]) -> tuple[tuple[float, float] | None, str]:
    """Find the one scale that the grades of all candidates are on.

    Each candidate's grades have a scale of their own, so a file with 0 and 1 isn't read as the lowest grades of 0 to 5.
    Scales that only differ in whether 0 occurs, such as 1 to 5 and 0 to 5, are one scale.

    Args:
        grades: candidate -> its grades; candidates without grades don't count.

    Returns:
        The scale, None if there is none or the scales differ; and the reason why not, empty without grades.
    """
    known = {name: scale_of(given) for name, given in grades.items() if given}
    if not known:
        return None, ""
    for name, scale in known.items():
        if scale is None:
            return None, (
                f"people's grades are left out: those of {name} go from {min(grades[name]):g} to {max(grades[name]):g},"
                " which is no usual scale such as 0 to 1, 1 to 5 or 0 to 100; rescale the column 'grade' of every file"
                " to 0 to 1"
            )
        mixed = [grade for grade in grades[name] if 0 < grade < 1]
        if scale[1] == 100 and mixed:
            return None, (
                f"people's grades are left out: those of {name} hold both {mixed[0]:g} and {max(grades[name]):g}, so "
                "some may be shares and others percentages; rescale the column 'grade' of every file to 0 to 1"
            )
    scales = {name: scale for name, scale in known.items() if scale is not None}
    if len({scale[1] for scale in scales.values()}) > 1:
        (first, one), *others = scales.items()
        other, unlike = next((name, scale) for name, scale in others if scale[1] != one[1])
        return None, (
            f"people's grades are left out: those of {first} are on a scale from {one[0]:g} to {one[1]:g}, those of "
            f"{other} from {unlike[0]:g} to {unlike[1]:g}; rescale the column 'grade' of every file to 0 to 1"
        )
    return min(scales.values()), ""


class HumanGrade(Mean):
    """Mean grade that people gave to the answers."""

    name, title = HUMAN_GRADE, "Human grade"
    needs_references = False
    family_of_its_own = True
    description = (
        "Mean of the grades that people gave to the answers, from 0 to 1 (right and wrong are 1 and 0; 1 to 5 is "
        "rescaled). Higher is better. Where only some answers are graded, measures of all answers make the estimate "
        "more precise and can't bias it (prediction-powered inference)."
    )

    def signature(self) -> str:
        """Describe the scale."""
        return "human_grade|scale:0 to 1"

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (grade, 1).

        Raises:
            CannotMeasure: the answer has no grade, or none from 0 to 1.
        """
        if item.grade is None:
            raise CannotMeasure("the answer has no grade of a person (column 'grade' of the recorded answers)")
        if not 0 <= item.grade <= 1:
            raise CannotMeasure("the grade isn't between 0 and 1; sizewise compare rescales grades")
        return item.grade, 1.0
