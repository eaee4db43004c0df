"""Multiple choice by likelihood: which answer the model finds likeliest, and how confident it is."""

from __future__ import annotations

import numpy as np

from sizewise.metrics.base import Better, ChoiceItem, FloatArray, Mean, Needs

BINS = 10


def hit_share(costs: FloatArray, correct: int) -> float:
    """Return how far the correct choice is the cheapest one: 1 or 0, and its share of the first place in a tie.

    Args:
        costs: negative log-likelihood of each choice, in total or by length.
        correct: index of the correct choice.
    """
    lowest = float(costs.min())
    tied = np.isclose(costs, lowest, rtol=1e-12, atol=0) | (costs == lowest)
    return float(tied[correct]) / int(tied.sum())


class _Choice(Mean):
    needs: Needs = "choices"


class ChoiceAccuracy(_Choice):
    """Accuracy when the answer with the highest total log-likelihood counts as chosen."""

    name, title, version = "choice_accuracy", "Choice accuracy", 2
    description = (
        "Share of questions on which the model gives the correct choice the highest likelihood. Higher is better. "
        "Longer answers score lower regardless of content; the length-normalized version corrects for that."
    )

    def signature(self) -> str:
        """Describe what is compared."""
        return "choice_accuracy|sum of log-likelihoods|ties:shared"

    def measure(self, item: ChoiceItem) -> tuple[float, ...]:
        """Return (1 or 0, 1)."""
        return hit_share(np.array(item.nats), item.correct), 1.0


class ChoiceAccuracyByByte(_Choice):
    """Accuracy when the answer with the highest log-likelihood per byte counts as chosen."""

    name, title, version = "choice_accuracy_by_byte", "Choice accuracy (length-normalized)", 2
    description = (
        "Share of questions on which the model gives the correct choice the highest likelihood per byte. Higher is "
        "better. Guessing among k choices scores 1/k."
    )

    def signature(self) -> str:
        """Describe what is compared."""
        return "choice_accuracy_by_byte|log-likelihood / bytes|ties:shared"

    def measure(self, item: ChoiceItem) -> tuple[float, ...]:
        """Return (1 or 0, 1)."""
        each = np.array(item.nats) / np.maximum(1, item.bytes)
        return hit_share(each, item.correct), 1.0


class ChoiceCalibration(_Choice):
    """Squared calibration error without bias: the squared gap between confidence and accuracy.

    The usual estimate of the expected calibration error is above 0 for a perfectly calibrated model, by more the fewer
    questions there are. Here each bin multiplies the gaps of different questions only, so noise cancels out.

    Source: Broecker (2012), Estimating reliability and resolution of probability forecasts through decomposition of the
    empirical score; Kumar, Liang and Ma (2019), Verified uncertainty calibration. Ten bins; confidence is the softmax
    over the choices.
    """

    name, title, unit, version = "choice_calibration", "Calibration error (squared)", "squared share", 2
    stands_for_quality = False
    better: Better = "lower"
    description = (
        "Mean squared gap between the model's confidence and its accuracy: 0.01 is a typical gap of 10 points. Lower "
        "is better. It has no bias, so values slightly below 0 occur if the model is well calibrated. A model that "
        "guesses and knows it is well calibrated too."
    )

    def signature(self) -> str:
        """Describe the binning."""
        return f"choice_calibration|squared|unbiased|bins:{BINS}|softmax of log-likelihoods"

    def measure(self, item: ChoiceItem) -> tuple[float, ...]:
        """Return (questions, gap, squared gap) for each confidence bin."""
        nats = np.array(item.nats)
        probabilities = np.exp(nats.min() - nats)
        best = int(np.argmin(nats))
        confidence = float(1 / probabilities.sum())
        gap = confidence - float(best == item.correct)
        stats = np.zeros((BINS, 3))
        stats[min(BINS - 1, int(confidence * BINS))] = (1.0, gap, gap * gap)
        return tuple(stats.ravel().tolist())

    def value(self, sums: FloatArray) -> FloatArray:
        """Average the products of gaps of different questions within each bin, weighted by the bin's questions."""
        count, gap, squared = sums[..., 0::3], sums[..., 1::3], sums[..., 2::3]
        with np.errstate(divide="ignore", invalid="ignore"):
            pairs = np.where(count > 1, (gap * gap - squared) / (count - 1), 0.0)
            result: FloatArray = pairs.sum(axis=-1) / count.sum(axis=-1)
        return np.where((count > 1).any(axis=-1), result, np.nan)
