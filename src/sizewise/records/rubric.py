"""Records of rubrics: criteria by which a judge model grades answers."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from sizewise.records.base import Record


class Criterion(Record):
    """One criterion of a rubric, with the grades that a judge may give."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,39}$")
    """Name of the criterion: letters, digits, _ and -."""
    description: str = Field(min_length=1)
    """What the judge is asked about the answer."""
    scale: tuple[str, ...] = Field(min_length=2, max_length=101)
    """Grades, the worst first."""

    @field_validator("scale")
    @classmethod
    def _distinct(cls, scale: tuple[str, ...]) -> tuple[str, ...]:
        folded = [grade.strip().casefold() for grade in scale]
        if not all(folded) or len(set(folded)) != len(folded):
            raise ValueError("the grades of a scale must differ and not be empty")
        return scale


class Rubric(Record):
    """Criteria for the answers to a test set, and whether the judge sees the reference answer."""

    criteria: tuple[Criterion, ...] = Field(min_length=1, max_length=10)
    """The criteria; a judge grades all of them in one call."""
    references: bool = True
    """Whether the judge sees the first reference answer, where there is one."""

    @model_validator(mode="after")
    def _names(self) -> Rubric:
        names = [one.name.casefold() for one in self.criteria]
        if len(set(names)) != len(names):
            raise ValueError("two criteria have the same name")
        return self


class RubricUse(Record):
    """A rubric, and the judge model that graded by it."""

    rubric: Rubric
    """The criteria."""
    judge: str
    """URI of the judge model."""
    judge_revision: str = ""
    """Revision of the judge model."""
    method_version: int
    """Version of the request and of how grades are read."""
    graded: int
    """Answers with a grade on every criterion."""
    unreadable: int
    """Answers whose judgment states no grade, or several, on a criterion; they have no grade."""
    truncated: int
    """Answers whose judgment was cut at its token limit; they have no grade."""
