"""Measures of lm-evaluation-harness: it measures the items, we add up and resample."""

from __future__ import annotations

import numpy as np

from sizewise.metrics.base import Better, FloatArray, Mean

PREFIX = "lm-eval:"
_PER_UNIT = ("word_perplexity", "byte_perplexity", "bits_per_byte")
_LOWER = (*_PER_UNIT, "perplexity", "ter", "brier_score", "mse", "wer")
_SHARES = ("acc", "acc_norm", "acc_bytes", "exact_match")


class HarnessMetric(Mean):
    """One measure of one task; its name is `lm-eval:TASK:MEASURE`."""

    def __init__(self, name: str) -> None:
        task, _, measure = name.removeprefix(PREFIX).rpartition(":")
        self.name, self.measure_name = name, measure.partition(",")[0]
        self.title = f"{task}: {measure}"
        self.needs = "suite"
        self.unit = "share" if self.measure_name in _SHARES else self.measure_name
        self.better: Better = "lower" if self.measure_name in _LOWER else "higher"
        self.description = (
            f"{measure} of the task {task}, measured item by item by lm-evaluation-harness. "
            f"{self.better.capitalize()} is better. A public task may stand in a model's training text."
        )

    def value(self, sums: FloatArray) -> FloatArray:
        """Add up as the harness does: a mean, or of log-likelihoods their exponential or bits."""
        mean = super().value(sums)
        if self.measure_name == "bits_per_byte":
            return np.asarray(-mean / np.log(2))
        if self.measure_name in _LOWER and self.measure_name.endswith("perplexity"):
            found: FloatArray = np.exp(-mean)
            return found
        return mean
