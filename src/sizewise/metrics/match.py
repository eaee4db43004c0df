"""Whether an answer is a reference, letter for letter."""

from __future__ import annotations

from typing import Literal

from sizewise.metrics.base import AnswerItem, FloatArray, LikelihoodItem


class ExactMatch:
    """Share of answers that equal a reference, white space at the ends and case put aside."""

    name = "exact_match"
    needs: Literal["answers", "likelihood"] = "answers"
    unit = "share"
    better: Literal["higher", "lower"] = "higher"
    sentence = "Share of answers that are the reference itself; higher is better; for short answers and labels."

    def signature(self) -> str:
        """Say how texts are compared."""
        return "exact_match|case:folded|space:collapsed"

    def measure_answer(self, item: AnswerItem) -> tuple[float, ...]:
        """Give (1 or 0, 1)."""

        def plain(text: str) -> str:
            return " ".join(text.casefold().split())

        hit = plain(item.completion) in {plain(reference) for reference in item.references}
        return float(hit), 1.0

    def measure_likelihood(self, item: LikelihoodItem) -> tuple[float, ...]:
        """Refuse: this metric is about answers, not text."""
        raise TypeError("exact_match needs answers")

    def value(self, sums: FloatArray) -> FloatArray:
        """Divide hits by answers."""
        result: FloatArray = sums[..., 0] / sums[..., 1]
        return result
