"""Voice: whether an answer is attributed to the organization by its style; measured where candidates are compared."""

from __future__ import annotations

from sizewise.metrics.base import AnswerItem, CannotMeasure, Mean

VOICE = "voice"


class Voice(Mean):
    """Share of answers that a classifier of style attributes to the organization rather than to a base model."""

    name, title = VOICE, "Voice"
    description = (
        "Share of answers that a classifier of style takes for the organization's own texts rather than for answers of "
        "models that weren't trained on them. The topic is masked, and answers to the same questions are compared. It "
        "says nothing about facts. It's measured when candidates are compared."
    )

    def signature(self) -> str:
        """Describe the classifier."""
        return "voice|masked content words|character 2- to 4-grams|logistic regression|5 folds over documents"

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Raise: a single answer has no voice.

        Raises:
            CannotMeasure: always; `comparison.voice` measures the answers of several candidates together.
        """
        raise CannotMeasure("it's measured when candidates are compared (sizewise compare, or a study)")
