"""Probabilities of decisions: log loss, Brier score and calibration error, for models that return them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sizewise.metrics.base import AnswerItem, Better, CannotMeasure, FloatArray, Mean, Metric
from sizewise.metrics.labels import labels_of
from sizewise.stats.calibration import MAX_BINS, calibration_error
from sizewise.stats.inference import Interval
from sizewise.text import fold_text

SMALLEST = 1e-6
"""Probabilities below it count as this one in the log loss: one certain mistake must not decide everything."""
MAX_ROUNDING = 0.01
SEVERAL_CORRECT = "it is defined for questions with one correct option, whose probabilities sum to 1"
NO_PROBABILITIES = "the model gives no probabilities of its answers"


class _Probabilities(Mean):
    better: Better = "lower"
    stands_for_quality = False

    def prepared(self, references: Sequence[tuple[str, ...]]) -> Metric:
        """Check that the references are labels, one for each example.

        Raises:
            CannotMeasure: they aren't.
        """
        if getattr(references, "several", False):  # probabilities that sum to 1 by chance are the surest ones
            raise CannotMeasure(SEVERAL_CORRECT)
        labels_of(references)
        return self

    def _chances(self, item: AnswerItem) -> tuple[list[float], list[bool]]:
        """Return the probability of each option, and whether it is a correct one."""
        if not item.probabilities:
            raise CannotMeasure(NO_PROBABILITIES)
        if abs(sum(item.probabilities.values()) - 1) > MAX_ROUNDING:
            raise CannotMeasure(SEVERAL_CORRECT)
        chances, written = list(item.probabilities.values()), [one in item.references for one in item.probabilities]
        if any(written):  # options may differ in case alone
            return chances, written
        accepted = set(map(fold_text, item.references))
        return chances, [fold_text(value) in accepted for value in item.probabilities]


class LogLoss(_Probabilities):
    """Mean negative log-likelihood of the correct option."""

    name, title, unit = "log_loss", "Log loss", "nats"
    bounds = (0.0, math.inf)
    description = (
        "Mean negative logarithm of the probability of the correct option, in nats. Lower is better; guessing evenly "
        "among k options scores ln k. Confident mistakes cost most."
    )

    def signature(self) -> str:
        """Describe the smallest probability."""
        return f"log_loss|natural|clipped:{SMALLEST:g}"

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (negative log-likelihood, 1)."""
        chances, correct = self._chances(item)
        probability = sum(p for p, right in zip(chances, correct, strict=True) if right)
        return -math.log(min(1.0, max(SMALLEST, probability))), 1.0


class Brier(_Probabilities):
    """Mean squared error of the probabilities, summed over the options.

    Source: Brier (1950), Verification of forecasts expressed in terms of probability.
    """

    name, title, unit = "brier", "Brier score", "0-2"
    bounds = (0.0, 2.0)
    description = (
        "Squared difference between each option's probability and the truth, summed over the options: from 0 to 2. "
        "Lower is better. It rewards correct answers and honest probabilities alike."
    )

    def signature(self) -> str:
        """Describe the sum."""
        return "brier|sum over options"

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (squared error, 1)."""
        chances, correct = self._chances(item)
        share = 1 / max(1, sum(correct))  # several accepted answers share the truth
        error = sum((p - share * right) ** 2 for p, right in zip(chances, correct, strict=True))
        return error + (0.0 if any(correct) else 1.0), 1.0


class CalibrationError(_Probabilities):
    """Expected calibration error of the most likely option, freed of what chance alone adds.

    The same estimate and interval as in the analysis of decisions: `sizewise.stats.calibration` has the method. It
    needs the items, so the value of sums is only the gap of all items together, and differences aren't tested.
    """

    name, title, unit = "ece", "Calibration error", "share"
    version = 2
    description = (
        "Mean gap between confidence and accuracy over bins of confidence, corrected for noise. Lower is better: 0.02 "
        "means that decisions made with 90% confidence are right 88% to 92% of the time. A model that guesses and "
        "knows it is well calibrated too."
    )

    def signature(self) -> str:
        """Describe the binning."""
        return f"ece|top option|at most {MAX_BINS} bins of equal mass|debiased by inversion"

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (1, confidence, 1 or 0 for correct)."""
        chances, correct = self._chances(item)
        best = int(np.argmax(chances))
        return 1.0, min(1.0, chances[best]), float(correct[best])

    def value(self, sums: FloatArray) -> FloatArray:
        """Compute the gap between mean confidence and accuracy."""
        with np.errstate(divide="ignore", invalid="ignore"):
            result: FloatArray = np.abs(sums[..., 1] - sums[..., 2]) / sums[..., 0]
        return result

    def estimate(self, stats: FloatArray, clusters: Sequence[str]) -> Interval:
        """Estimate the calibration error of items with its interval.

        Args:
            stats: (items, 3) statistics.
            clusters: source document of each item.
        """
        return Interval(*calibration_error(stats[:, 1], stats[:, 2], clusters)[:3])
