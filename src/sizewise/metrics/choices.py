"""Multiple choice by likelihood: the model is asked which answer it finds most likely, and how sure it is."""

from __future__ import annotations

import numpy as np

from sizewise.metrics.base import Better, ChoiceItem, FloatArray, Mean, Needs

BINS = 10


class _Choice(Mean):
    needs: Needs = "choices"


class ChoiceAccuracy(_Choice):
    """Share of questions whose right answer has the greatest log-likelihood."""

    name, title = "choice_accuracy", "Right choice"
    description = (
        "Share of questions whose right answer the model finds most likely of those given. Higher is better. Long "
        "answers are found less likely whatever they say: see the form by byte."
    )

    def signature(self) -> str:
        """Say what is compared."""
        return "choice_accuracy|sum of log-likelihoods"

    def measure(self, item: ChoiceItem) -> tuple[float, ...]:
        """Give (1 or 0, 1)."""
        return float(int(np.argmin(item.nats)) == item.right), 1.0


class ChoiceAccuracyByByte(_Choice):
    """Share of questions whose right answer has the greatest log-likelihood a byte."""

    name, title = "choice_accuracy_by_byte", "Right choice, by byte"
    description = (
        "Share of questions whose right answer the model finds most likely for its length. Higher is better. Guessing "
        "has one in as many right as there are answers."
    )

    def signature(self) -> str:
        """Say what is compared."""
        return "choice_accuracy_by_byte|log-likelihood / bytes"

    def measure(self, item: ChoiceItem) -> tuple[float, ...]:
        """Give (1 or 0, 1)."""
        each = np.array(item.nats) / np.maximum(1, item.bytes)
        return float(int(np.argmin(each)) == item.right), 1.0


class ChoiceCalibration(_Choice):
    """Expected calibration error: how far confidence is from the share of right choices.

    Source: Naeini, Cooper and Hauskrecht (2015), ten bins; confidence is the softmax over the choices.
    """

    name, title = "choice_calibration", "Calibration error"
    stands_for_quality = False
    better: Better = "lower"
    description = (
        "Mean gap between how sure the model is of a choice and how often it is right, 0 to 1. Lower is better. A "
        "model that guesses and knows it is well calibrated too."
    )

    def signature(self) -> str:
        """Say how it is binned."""
        return f"choice_calibration|bins:{BINS}|softmax of log-likelihoods"

    def measure(self, item: ChoiceItem) -> tuple[float, ...]:
        """Give, for each bin of confidence, (questions, confidence, right)."""
        nats = np.array(item.nats)
        probabilities = np.exp(nats.min() - nats)
        best = int(np.argmin(nats))
        confidence = float(1 / probabilities.sum())
        stats = np.zeros((BINS, 3))
        stats[min(BINS - 1, int(confidence * BINS))] = (1.0, confidence, float(best == item.right))
        return tuple(stats.ravel().tolist())

    def value(self, sums: FloatArray) -> FloatArray:
        """Average the gaps of the bins by their questions."""
        count, confidence, right = sums[..., 0::3], sums[..., 1::3], sums[..., 2::3]
        with np.errstate(divide="ignore", invalid="ignore"):
            result: FloatArray = np.abs(confidence - right).sum(axis=-1) / count.sum(axis=-1)
        return result
