"""Multiple choice by likelihood: which answer the model finds likeliest, and how confident it is."""

from __future__ import annotations

import numpy as np

from sizewise.metrics.base import Better, ChoiceItem, FloatArray, Mean, Needs

BINS = 10


class _Choice(Mean):
    needs: Needs = "choices"


class ChoiceAccuracy(_Choice):
    """Accuracy when the answer with the highest total log-likelihood counts as chosen."""

    name, title = "choice_accuracy", "Choice accuracy"
    description = (
        "Share of questions on which the model gives the correct choice the highest likelihood. Higher is better. "
        "Longer answers score lower regardless of content; the length-normalized version corrects for that."
    )

    def signature(self) -> str:
        """Describe what is compared."""
        return "choice_accuracy|sum of log-likelihoods"

    def measure(self, item: ChoiceItem) -> tuple[float, ...]:
        """Return (1 or 0, 1)."""
        return float(int(np.argmin(item.nats)) == item.correct), 1.0


class ChoiceAccuracyByByte(_Choice):
    """Accuracy when the answer with the highest log-likelihood per byte counts as chosen."""

    name, title = "choice_accuracy_by_byte", "Choice accuracy (length-normalized)"
    description = (
        "Share of questions on which the model gives the correct choice the highest likelihood per byte. Higher is "
        "better. Guessing among k choices scores 1/k."
    )

    def signature(self) -> str:
        """Describe what is compared."""
        return "choice_accuracy_by_byte|log-likelihood / bytes"

    def measure(self, item: ChoiceItem) -> tuple[float, ...]:
        """Return (1 or 0, 1)."""
        each = np.array(item.nats) / np.maximum(1, item.bytes)
        return float(int(np.argmin(each)) == item.correct), 1.0


class ChoiceCalibration(_Choice):
    """Expected calibration error: how far confidence is from accuracy.

    Source: Naeini, Cooper and Hauskrecht (2015), ten bins; confidence is the softmax over the choices.
    """

    name, title = "choice_calibration", "Calibration error"
    stands_for_quality = False
    better: Better = "lower"
    description = (
        "Mean gap between the model's confidence and its accuracy. Lower is better. A model that guesses and knows it "
        "is also well calibrated."
    )

    def signature(self) -> str:
        """Describe the binning."""
        return f"choice_calibration|bins:{BINS}|softmax of log-likelihoods"

    def measure(self, item: ChoiceItem) -> tuple[float, ...]:
        """Return (questions, confidence, correct) for each confidence bin."""
        nats = np.array(item.nats)
        probabilities = np.exp(nats.min() - nats)
        best = int(np.argmin(nats))
        confidence = float(1 / probabilities.sum())
        stats = np.zeros((BINS, 3))
        stats[min(BINS - 1, int(confidence * BINS))] = (1.0, confidence, float(best == item.correct))
        return tuple(stats.ravel().tolist())

    def value(self, sums: FloatArray) -> FloatArray:
        """Average the gap of each bin, weighted by its questions."""
        count, confidence, correct = sums[..., 0::3], sums[..., 1::3], sums[..., 2::3]
        with np.errstate(divide="ignore", invalid="ignore"):
            result: FloatArray = np.abs(confidence - correct).sum(axis=-1) / count.sum(axis=-1)
        return result
