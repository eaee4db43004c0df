"""Answers that a model declines to give: how often it is right when it answers, and whether it declines the right ones.

Declining is what `refusals` counts: a refusal, or a statement that the answer isn't known.
"""

from __future__ import annotations

from collections.abc import Sequence

from sizewise.metrics.base import AnswerItem, Better, CannotMeasure, FloatArray, Mean
from sizewise.metrics.content import MAX_TERMS, content_match, is_short
from sizewise.metrics.manner import refuses
from sizewise.metrics.refusal_phrases import KNOWN_LANGUAGES
from sizewise.stats.inference import Interval
from sizewise.stats.selective import area_interval

ANSWERED, RISK_COVERAGE = "answered_accuracy", "risk_coverage_area"
"""Names of the metrics of answers that the model gives; the second one needs the probabilities of their tokens."""


def is_unanswerable(references: Sequence[str]) -> bool:
    """Check whether the reference answers say that the question can't be answered."""
    return bool(references) and all(map(refuses, references))


def _match(item: AnswerItem) -> float:
    """Compute how far an answer contains a short reference; an answer to an unanswerable question is wrong.

    Raises:
        CannotMeasure: every reference answer is long.
    """
    if is_unanswerable(item.references):
        return 0.0
    short = [one for one in item.references if is_short(one)]
    if not short:
        raise CannotMeasure(f"the reference answer has more than {MAX_TERMS} content words")
    return max(content_match(item.completion, one, item.prompt) for one in short)


class AnsweredAccuracy(Mean):
    """How far answers are right, of those that the model gives."""

    name, title, version = ANSWERED, "Right when answering", 2
    languages = KNOWN_LANGUAGES
    stands_for_quality = False
    description = (
        "Reference match of the answers that the model gives; declined questions don't count, and answers to questions "
        "whose reference says that they can't be answered are wrong. Higher is better. A model that answers only what "
        "is easy scores high, so read it with the refusal rate."
    )

    def signature(self) -> str:
        """Describe what counts as right, and as declined."""
        return f"answered_accuracy|match:reference_match|declined:refusals|terms:{MAX_TERMS}"

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (match, 1) of an answer, and (0, 0) where the model declines.

        Raises:
            CannotMeasure: every reference answer is long.
        """
        match = _match(item)
        return (0.0, 0.0) if refuses(item.completion) else (match, 1.0)


class AbstentionRecall(Mean):
    """Share of the unanswerable questions that the model declines."""

    name, title = "abstention_recall", "Declines the unanswerable"
    languages = KNOWN_LANGUAGES
    stands_for_quality = False
    description = (
        "Share of the questions whose reference answer is itself a refusal, such as 'The document doesn't say', that "
        "the model declines. Higher is better. A model that declines everything reaches 100%, so read it with the "
        "refusal rate."
    )

    def signature(self) -> str:
        """Describe which questions count."""
        return "abstention_recall|of:references that refuse|declined:refusals"

    def prepared(self, references: Sequence[tuple[str, ...]]) -> Mean:
        """Return the metric unchanged if a reference answer says that its question can't be answered.

        Raises:
            CannotMeasure: none does.
        """
        if not any(map(is_unanswerable, references)):
            raise CannotMeasure("no reference answer says that its question can't be answered")
        return self

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (1 or 0, 1) for an unanswerable question, and (0, 0) for others."""
        if not is_unanswerable(item.references):
            return 0.0, 0.0
        return float(refuses(item.completion)), 1.0


class RiskCoverageArea(Mean):
    """Area under the risk-coverage curve of the answers that the model gives (AURC).

    Source: Geifman and El-Yaniv (2017), Selective classification for deep neural networks. The value of sums is only
    the mean loss, which a confidence without any information has; the area needs the items.
    """

    name, title = RISK_COVERAGE, "Risk-coverage area"
    better: Better = "lower"
    languages = KNOWN_LANGUAGES
    stands_for_quality = False
    description = (
        "Mean share of wrong answers while the model gives more and more of them, the most confident first: by the "
        "mean probability of an answer's tokens, or that of a decision. Lower is better; without any information in "
        "the confidence it is the share of wrong answers. Declined questions don't count. With fewer than 60 answers "
        "its interval is too narrow."
    )

    def signature(self) -> str:
        """Describe confidence and loss."""
        return "risk_coverage_area|confidence:mean token probability, or of the decision|loss:1-reference_match"

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (loss, 1, confidence), and zeros where the model declines.

        Raises:
            CannotMeasure: the answer has no confidence, or every reference answer is long.
        """
        confidence = max(item.probabilities.values()) if item.probabilities else item.confidence
        if confidence is None:
            raise CannotMeasure("the model reports no probability of its answers' tokens")
        match = _match(item)
        return (0.0, 0.0, 0.0) if refuses(item.completion) else (1 - match, 1.0, confidence)

    def estimate(self, stats: FloatArray, clusters: Sequence[str]) -> Interval:
        """Estimate the area with its interval.

        Args:
            stats: (items, 3) statistics.
            clusters: source document of each item.
        """
        given = stats[:, 1] > 0
        if not given.any():
            return Interval(float("nan"), float("nan"), float("nan"))
        names = [name for name, one in zip(clusters, given, strict=True) if one]
        return Interval(*area_interval(stats[given, 2], stats[given, 0], names))
