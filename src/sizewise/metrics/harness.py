"""Metrics of lm-evaluation-harness: the harness measures the items, this module aggregates and resamples them."""

from __future__ import annotations

import numpy as np

from sizewise.metrics.base import Better, FloatArray, Mean

PREFIX = "lm-eval:"
_PER_UNIT = ("word_perplexity", "byte_perplexity", "bits_per_byte")
_LOWER = (*_PER_UNIT, "perplexity", "ter", "brier_score", "mse", "wer")
_SHARES = ("acc", "acc_norm", "acc_bytes", "exact_match")


class HarnessMetric(Mean):
    """One metric of one harness task, named `lm-eval:TASK:MEASURE`."""

    def __init__(self, name: str) -> None:
        task, _, measure = name.removeprefix(PREFIX).rpartition(":")
        self.name, self.measure_name = name, measure.partition(",")[0]
        self.title = f"{task}: {measure}"
        self.needs = "suite"
        self.unit = "share" if self.measure_name in _SHARES else self.measure_name
        self.better: Better = "lower" if self.measure_name in _LOWER else "higher"
        self.description = (
            f"{measure} on the task {task}, measured per item by lm-evaluation-harness. "
            f"{self.better.capitalize()} is better. A public task may be part of a model's training data."
        )

    def value(self, sums: FloatArray) -> FloatArray:
        """Aggregate as the harness does: a mean, or a perplexity or bits computed from mean log-likelihoods."""
        mean = super().value(sums)
        if self.measure_name == "bits_per_byte":
            return np.asarray(-mean / np.log(2))
        if self.measure_name in _LOWER and self.measure_name.endswith("perplexity"):
            found: FloatArray = np.exp(-mean)
            return found
        return mean
