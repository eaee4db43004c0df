"""Classification: accuracy and macro-F1, where the right answers are a few labels."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from sizewise.metrics.base import AnswerItem, CannotMeasure, FloatArray, Mean, Metric
from sizewise.metrics.match import plain

MOST_LABELS = 200


def labels_of(references: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Give the labels of a test set in order.

    Raises:
        CannotMeasure: the right answers are no labels.
    """
    labels = sorted({plain(options[0]) for options in references})
    if len(labels) > MOST_LABELS or len(labels) * 2 > len(references):
        raise CannotMeasure(
            f"{len(labels)} different right answers in {len(references)} examples are no labels "
            f"(at most {MOST_LABELS}, each twice on average)"
        )
    return tuple(labels)


def label_in(answer: str, labels: Sequence[str]) -> int:
    """Give which label an answer names: the whole of it, or the one named first in its first line; -1 if none.

    Of labels that begin at the same place, the longer one is meant.
    """
    text = plain(answer)
    if text in labels:
        return labels.index(text)
    lines = [line for line in answer.split("\n") if line.strip()]
    first = plain(lines[0]) if lines else ""
    found = []
    for i, label in enumerate(labels):
        place = re.search(rf"(?<!\w){re.escape(label)}(?!\w)", first) if label else None
        if place:
            found.append((place.start(), -len(label), i))
    return min(found)[2] if found else -1


class _Labelled(Mean):
    labels: tuple[str, ...] = ()

    def signature(self) -> str:
        """Say how a label is found in an answer."""
        return f"{self.name}|label:first named in the first line"

    def prepared(self, references: Sequence[tuple[str, ...]]) -> Metric:
        """Give the metric that knows the labels of a test set."""
        metric = type(self)()
        metric.labels = labels_of(references)
        return metric

    def _pair(self, item: AnswerItem) -> tuple[int, int]:
        """Give (right label, answered label or -1)."""
        answered = label_in(item.completion, self.labels)
        others = {plain(reference) for reference in item.references}
        right = self.labels.index(plain(item.references[0]))
        return (answered if answered >= 0 and self.labels[answered] in others else right), answered


class Accuracy(_Labelled):
    """Share of answers that name the right label."""

    name, title = "accuracy", "Accuracy"
    description = (
        "Share of answers that name the right label. Higher is better. Where one label is frequent, always naming it "
        "looks good: see macro-F1 and the baseline of the most frequent answer."
    )

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Give (1 or 0, 1)."""
        right, answered = self._pair(item)
        return float(right == answered), 1.0


class MacroF1(_Labelled):
    """Mean over labels of the F1 of each."""

    name, title = "macro_f1", "Macro-F1"
    description = (
        "How well each label is found and kept apart, rare labels counted as much as frequent ones, 0 to 1. Higher "
        "is better. It cannot tell which mistakes are costly."
    )

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Give, for each label, (named rightly, named, right), one after the other."""
        right, answered = self._pair(item)
        stats = np.zeros((len(self.labels), 3))
        stats[right, 2] = 1
        if answered >= 0:
            stats[answered, 1] = 1
            stats[answered, 0] = float(answered == right)
        return tuple(stats.ravel().tolist())

    def value(self, sums: FloatArray) -> FloatArray:
        """Average F1 over labels that occur, rightly or not."""
        hits, named, right = sums[..., 0::3], sums[..., 1::3], sums[..., 2::3]
        with np.errstate(divide="ignore", invalid="ignore"):
            f1 = np.where(named + right > 0, 2 * hits / (named + right), 0.0)
            result: FloatArray = f1.sum(axis=-1) / (named + right > 0).sum(axis=-1)
        return result
