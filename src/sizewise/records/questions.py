"""Typed questions: what a decision is about, and the options that it chooses from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import Field, model_validator

from sizewise.records.base import Record

QuestionType = Literal["predicate", "choice", "multi", "score"]


class Option(Record):
    """One possible answer to a question."""

    value: str = Field(min_length=1)
    """The answer, as it stands in the data."""
    description: str = ""
    """What the option means, for models that read it."""


class Question(Record):
    """A question with a fixed set of options, whose answer is a probability for each of them."""

    type: QuestionType = "choice"
    """predicate: how likely a statement is true; choice: one option; multi: any number of options; score: one of
    ordered levels."""
    instructions: str = ""
    """What is asked, for models that read it."""
    options: tuple[Option, ...] = Field(min_length=2)
    """The options; of a predicate, the first one says that the statement is true; of a score, in ascending order."""

    @model_validator(mode="after")
    def _distinct_options(self) -> Question:
        values = self.values
        if len(set(values)) < len(values):
            repeated = next(value for value in values if values.count(value) > 1)
            raise ValueError(f"the option '{repeated[:50]}' appears more than once")
        if self.type == "predicate" and len(values) != 2:
            raise ValueError(f"a predicate has two options, not {len(values)}")
        return self

    @property
    def values(self) -> tuple[str, ...]:
        """The answers of the options, in order."""
        return tuple(option.value for option in self.options)

    def texts(self) -> list[str]:
        """Return all texts that a model may read: instructions, options and their descriptions."""
        parts = [self.instructions, *(part for option in self.options for part in (option.value, option.description))]
        return [part for part in parts if part]

    def map_texts(self, change: Callable[[str], str]) -> Question:
        """Return the question with all its texts changed, for example with personal data masked."""
        options = tuple(
            Option(value=change(option.value), description=change(option.description)) for option in self.options
        )
        return self.model_copy(update={"instructions": change(self.instructions), "options": options})
