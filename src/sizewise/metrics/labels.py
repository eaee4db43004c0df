"""Classification: accuracy and macro F1, for reference answers drawn from a small set of labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from sizewise.metrics.base import AnswerItem, CannotMeasure, FloatArray, Mean, Metric
from sizewise.text import fold_text, phrase_pattern

MAX_LABELS, MAX_DECLARED_LABELS = 200, 2_000


def labels_of(references: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Collect the labels of a test set, sorted.

    Labels that the data declares count in any number. Other answers are labels if there are few distinct ones, counted
    over training and test examples: a test set can have fewer rows than labels.

    Raises:
        CannotMeasure: there are too many distinct reference answers.
    """
    given = [fold_text(options[0]) for options in references if options]
    declared = {fold_text(label) for label in getattr(references, "labels", ())}
    if given and declared and len(declared.union(given)) <= MAX_DECLARED_LABELS:
        return tuple(sorted(declared.union(given)))
    with_training = given + [fold_text(options[0]) for options in getattr(references, "training", ()) if options]
    for answers in (with_training, given):
        labels = set(answers)
        if answers and len(labels) <= MAX_LABELS and len(labels) * 2 <= len(answers):
            return tuple(sorted(labels))
    raise CannotMeasure(
        f"{len(set(given))} distinct reference answers in {len(given)} examples aren't a label set "
        f"(at most {MAX_LABELS} labels, each used twice on average)"
    )


def label_in(answer: str, labels: Sequence[str]) -> int:
    """Find the label in an answer: the whole answer, or the first label in its first line; -1 if there is none.

    If several labels start at the same position, the longest wins. In scripts without spaces, a label can touch other
    letters.
    """
    text = fold_text(answer)
    if text in labels:
        return labels.index(text)
    lines = [line for line in answer.split("\n") if line.strip()]
    first = fold_text(lines[0]) if lines else ""
    found = []
    for i, label in enumerate(labels):
        match = _pattern(label).search(first) if label and label in first else None
        if match:
            found.append((match.start(), -len(label), i))
    return min(found)[2] if found else -1


@lru_cache(maxsize=4_096)
def _pattern(label: str) -> re.Pattern[str]:
    return phrase_pattern(label)


class _LabelMetric(Mean):
    version = 2
    labels: tuple[str, ...] = ()

    def signature(self) -> str:
        """Describe how a label is extracted from an answer."""
        return f"{self.name}|label:first named in the first line|unicode:folded"

    def prepared(self, references: Sequence[tuple[str, ...]]) -> Metric:
        """Return a copy of the metric that knows the labels of a test set."""
        metric = type(self)()
        metric.labels = labels_of(references)
        return metric

    def _pair(self, item: AnswerItem) -> tuple[int, int]:
        """Return (reference label, predicted label or -1)."""
        predicted = label_in(item.completion, self.labels)
        accepted = set(map(fold_text, item.references))
        expected = self.labels.index(fold_text(item.references[0]))
        return (predicted if predicted >= 0 and self.labels[predicted] in accepted else expected), predicted


class Accuracy(_LabelMetric):
    """Share of answers with the correct label."""

    name, title = "accuracy", "Accuracy"
    description = (
        "Share of answers with the correct label. Higher is better. If one label dominates, always predicting it "
        "scores well, so compare with macro F1 and the most-frequent-answer baseline."
    )

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (1 or 0, 1)."""
        expected, predicted = self._pair(item)
        return float(expected == predicted), 1.0


class MacroF1(_LabelMetric):
    """F1 averaged over labels."""

    name, title = "macro_f1", "Macro F1"
    description = (
        "F1 per label, averaged so that rare labels count as much as frequent ones, from 0 to 1. Higher is better. It "
        "doesn't know which mistakes are costly."
    )

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (true positives, predictions, references) for each label, concatenated."""
        expected, predicted = self._pair(item)
        stats = np.zeros((len(self.labels), 3))
        stats[expected, 2] = 1
        if predicted >= 0:
            stats[predicted, 1] = 1
            stats[predicted, 0] = float(predicted == expected)
        return tuple(stats.ravel().tolist())

    def value(self, sums: FloatArray) -> FloatArray:
        """Average F1 over the labels that occur as reference or prediction."""
        hits, predicted, expected = sums[..., 0::3], sums[..., 1::3], sums[..., 2::3]
        with np.errstate(divide="ignore", invalid="ignore"):
            f1 = np.where(predicted + expected > 0, 2 * hits / (predicted + expected), 0.0)
            result: FloatArray = f1.sum(axis=-1) / (predicted + expected > 0).sum(axis=-1)
        return result
