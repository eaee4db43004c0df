"""Metrics of lm-evaluation-harness: the harness measures the items, this module aggregates and resamples them."""

from __future__ import annotations

from typing import Any

import numpy as np

from sizewise.metrics.base import AnswerItem, Better, FloatArray, Mean
from sizewise.metrics.overlap import Bleu, Chrf, Ter

PREFIX = "lm-eval:"
_PER_UNIT = ("word_perplexity", "byte_perplexity", "bits_per_byte")
_LOWER = (*_PER_UNIT, "perplexity", "ter", "brier_score", "mse", "wer")
_CORPUS = {"bleu": Bleu, "chrf": Chrf, "ter": Ter}
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
        if self.measure_name in _CORPUS:
            return _CORPUS[self.measure_name]().value(sums)
        mean = super().value(sums)
        if self.measure_name == "bits_per_byte":
            return np.asarray(-mean / np.log(2))
        if self.measure_name in _LOWER and self.measure_name.endswith("perplexity"):
            found: FloatArray = np.exp(-mean)
            return found
        return mean


def item_stats(measure: str, value: Any) -> tuple[float, ...] | None:
    """Turn what the harness logs for an item into statistics that add up; None if its total isn't made of such.

    Args:
        measure: name of the harness' metric.
        value: a number; or a pair: amount and weight, gold label and prediction (f1), or reference and answer (bleu).
    """
    if isinstance(value, (bool, int, float, np.integer, np.floating)):
        return (float(value), 1.0)
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        return None
    if measure in _CORPUS:
        references, answer = ((part,) if isinstance(part, str) else tuple(map(str, part)) for part in value)
        return tuple(_CORPUS[measure]().measure(AnswerItem(answer[0], references))) if answer else None
    if not all(isinstance(part, (bool, int, float, np.integer, np.floating)) for part in value):
        return None
    if measure == "f1":  # of the label 1, as a share of what is labeled or predicted
        gold, predicted = (int(part == 1) for part in value)
        return (2.0 * gold * predicted, float(gold + predicted))
    return (float(value[0]), float(value[1])) if measure in _PER_UNIT else None
