"""Classification: accuracy and macro F1, for reference answers drawn from a small set of labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from sizewise.metrics.base import AnswerItem, CannotMeasure, FloatArray, Mean, Metric
from sizewise.text import distinct_labels, fold_text, read_label

MAX_LABELS, MAX_DECLARED_LABELS = 200, 2_000


def labels_of(references: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Collect the labels of a test set, sorted.

    Labels that the data declares count in any number. Other answers are labels if there are few distinct ones, counted
    over training and test examples: a test set can have fewer rows than labels.

    Raises:
        CannotMeasure: there are too many distinct reference answers.
    """
    given = [fold_text(options[0]) for options in references if options]
    declared = set(distinct_labels(getattr(references, "labels", ())))
    if len(declared) > len(set(map(fold_text, declared))):  # labels that differ only in case
        given = [label if label in declared else fold_text(label) for label in (o[0] for o in references if o)]
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
    """Return the position of the label that an answer states; -1 if it states none, or none clearly."""
    return read_label(answer, labels).label


def reading_notes(metrics: Sequence[Metric], answers: Sequence[str]) -> list[str]:
    """Count the answers that state no label, or none clearly, by reason; they count as wrong.

    Args:
        metrics: metrics of the answers, prepared; without one of labels there is nothing to count.
        answers: texts of the answers, empty ones included, which other notes count.
    """
    labels = next((metric.labels for metric in metrics if isinstance(metric, _LabelMetric) and metric.labels), None)
    if labels is None:
        return []
    reasons = Counter(read_label(answer, labels).reason for answer in answers if answer.strip())
    unread = reasons.total() - reasons.pop("", 0)
    if not unread:
        return []
    listed = "; ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
    return [f"{unread:,} of {len(answers):,} answers don't state a label clearly and count as wrong: {listed}."]


class _LabelMetric(Mean):
    version = 4
    labels: tuple[str, ...] = ()

    def signature(self) -> str:
        """Describe how a label is extracted from an answer."""
        return f"{self.name}|label:last stated, none if denied or several|unicode:folded"

    def prepared(self, references: Sequence[tuple[str, ...]]) -> Metric:
        """Return a copy of the metric that knows the labels of a test set."""
        metric = type(self)()
        metric.labels = labels_of(references)
        return metric

    def is_unreadable(self, answer: str) -> bool:
        """Check whether an answer states no label, or none clearly."""
        return bool(self.labels) and label_in(answer, self.labels) < 0

    def _pair(self, item: AnswerItem) -> tuple[int, int]:
        """Return (reference label, predicted label or -1)."""
        predicted = label_in(item.completion, self.labels)
        accepted = {self._known(reference) for reference in item.references}
        expected = self.labels.index(self._known(item.references[0]))
        return (predicted if predicted >= 0 and self.labels[predicted] in accepted else expected), predicted

    def _known(self, label: str) -> str:
        """Return a label as it stands in the label set: exactly, or folded."""
        return label if label in self.labels else fold_text(label)


def _is_another_option(item: AnswerItem) -> bool:
    """Check whether an option was chosen that differs from the correct one only in what folding ignores, as a and A."""
    options = item.probabilities or {}
    return (
        item.completion in options
        and item.completion not in item.references
        and any(reference in options for reference in item.references)
    )


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
        return float(expected == predicted and not _is_another_option(item)), 1.0


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
