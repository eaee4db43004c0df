"""The decisions of a model as arrays: probabilities, correct labels and source documents of its cases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sizewise.errors import SizewiseError
from sizewise.records import DecidedItem, ItemRow, Score
from sizewise.stats.inference import FloatArray, IntArray, Interval
from sizewise.text import fold_text, positive_first

_TINY = 1e-6  # a share below it is shown as zero
MAX_DEVIATION = 1e-3
"""Probabilities of a case may sum to 1 up to this much; others are divided by their sum."""


@dataclass(frozen=True)
class CostRules:
    """Costs of decisions, as a domain expert states them.

    Attributes:
        costs: Correct label -> decided label -> cost; what isn't stated costs 1, and a correct decision nothing.
        hand_over: Price of handing a case over to people; None if they aren't available.
        positive: The positive label of a question with two labels; by default as `positive_label` finds it.
        risks: Stated shares of wrong decisions.
    """

    costs: dict[str, dict[str, float]] | None = None
    hand_over: float | None = None
    positive: str = ""
    risks: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1)


class Subject(NamedTuple):
    """What is analyzed."""

    evaluation: str
    model: str
    data: str
    question_type: str = "choice"


class Decided(NamedTuple):
    """Cases with the probability of each label."""

    items: tuple[str, ...]
    clusters: list[str]
    probabilities: FloatArray
    """(items, labels); a row sums to 1."""
    correct: IntArray
    """(items,) index of the correct label."""

    @property
    def likeliest(self) -> IntArray:
        """Index of the most likely label, (items,)."""
        found: IntArray = np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)
        return found

    @property
    def confidence(self) -> FloatArray:
        """Probability of the most likely label, (items,)."""
        found: FloatArray = self.probabilities.max(axis=1)
        return found

    @property
    def is_correct(self) -> FloatArray:
        """1 where the most likely label is correct, (items,)."""
        found: FloatArray = (self.likeliest == self.correct).astype(np.float64)
        return found


class _Case(NamedTuple):
    item: str
    cluster: str
    label: str
    chances: dict[str, float]


def collect_labels(rows: Sequence[ItemRow], validation: Sequence[DecidedItem]) -> tuple[str, ...]:
    """List the labels of decisions: those with a probability, then correct ones that the model doesn't know."""
    options = dict.fromkeys(label for row in rows for label in row.probabilities or ())
    found = {fold_text(label): label for label in reversed(list(options))}
    for label in (*(row.references[0] for row in rows if row.references), *(one.labels[0] for one in validation)):
        if label not in options and fold_text(label) not in found:
            options[label] = None
            found[fold_text(label)] = label
    return tuple(options)


def label_places(labels: Sequence[str]) -> Callable[[str], int | None]:
    """Return the function that finds the index of a label: the same text, else the first that differs only in case."""
    exact = {label: i for i, label in reversed(list(enumerate(labels)))}
    folded = {fold_text(label): i for i, label in reversed(list(enumerate(labels)))}
    return lambda label: exact.get(label, folded.get(fold_text(label)))


def decided_rows(rows: Sequence[ItemRow], labels: Sequence[str]) -> Decided:
    """Collect the uncontaminated items of an evaluation that have probabilities and a reference."""
    return _table(
        (
            _Case(row.item, row.cluster, row.references[0], row.probabilities)
            for row in rows
            if row.probabilities and row.references and row.uncontaminated and row.error is None
        ),
        labels,
    )


def decided_before(validation: Sequence[DecidedItem], labels: Sequence[str]) -> Decided:
    """Collect the validation cases of a classifier."""
    return _table((_Case(one.item, one.cluster, one.labels[0], one.probabilities) for one in validation), labels)


def _table(cases: Iterable[_Case], labels: Sequence[str]) -> Decided:
    place = label_places(labels)
    items, clusters, correct, rows = [], [], [], []
    for case in cases:
        chances = np.zeros(len(labels))
        for label, chance in case.chances.items():
            chances[_at(place, label)] += chance
        items.append(case.item)
        clusters.append(case.cluster)
        correct.append(_at(place, case.label))
        rows.append(chances)
    probabilities = np.array(rows, dtype=np.float64).reshape(len(rows), len(labels))
    return Decided(tuple(items), clusters, normalized(probabilities), np.array(correct, dtype=np.int64))


def _at(place: Callable[[str], int | None], label: str) -> int:
    found = place(label)
    if found is None:
        raise KeyError(label)
    return found


def normalized(probabilities: FloatArray) -> FloatArray:
    """Divide rows that don't sum to 1 by their sum."""
    totals = probabilities.sum(axis=1, keepdims=True)
    wrong = np.abs(totals - 1) > MAX_DEVIATION
    return np.where(wrong & (totals > 0), probabilities / np.maximum(totals, 1e-300), probabilities)


def off_by(rows: Sequence[ItemRow]) -> int:
    """Count the items whose probabilities don't sum to 1."""
    return sum(1 for row in rows if row.probabilities and abs(sum(row.probabilities.values()) - 1) > MAX_DEVIATION)


def positive_label(labels: Sequence[str], correct: IntArray, wanted: str, kind: str = "choice") -> int | None:
    """Return the index of the positive label; None with more than two labels, unless one is named.

    Of a predicate it is the first option, and of yes and no, or a class and its opposite, the one that says yes: which
    label is rarer may change from one sample to the next. Of two other labels it is the rarer one.

    Args:
        labels: the labels, in the order of the question's options.
        correct: index of the correct label of each item.
        wanted: label that the user named; empty if none.
        kind: type of the question.

    Raises:
        SizewiseError: the named label isn't one of the labels.
    """
    if wanted:
        named = label_places(labels)(wanted)
        if named is None:
            raise SizewiseError(
                f"'{wanted}' is none of the labels.", ", ".join(labels[:20]), "name one of them with --positive"
            )
        return named
    if len(labels) != 2:
        return None
    if kind == "predicate":
        return 0
    ordered = positive_first(labels)
    if ordered is not None:
        return labels.index(ordered[0])
    return int((correct == 1).sum() <= (correct == 0).sum())


def as_score(
    metric: str,
    found: Interval | None,
    n: int,
    *,
    unit: str = "share",
    signature: str = "",
    reason: str = "",
    why: str = "",
) -> Score:
    """Build a score from an estimate with its interval.

    Args:
        metric: name of the score.
        found: the estimate; None or NaN if there is none.
        n: number of cases.
        unit: unit of the value.
        signature: how it was measured.
        reason: why there is no value.
        why: why a value has no interval.
    """
    if found is None or not np.isfinite(found.value):
        return Score(metric=metric, n=n, unit=unit, signature=signature or metric, missing_reason=reason or "no cases")
    found = Interval(*(0.0 if unit == "share" and abs(end) < _TINY else float(end) for end in found))
    known = bool(np.isfinite(found.ci_low) and np.isfinite(found.ci_high))
    return Score(
        metric=metric,
        value=float(found.value),
        ci_low=float(found.ci_low) if known else None,
        ci_high=float(found.ci_high) if known else None,
        n=n,
        unit=unit,
        signature=signature or metric,
        ci_missing_reason="" if known else why or "too few source documents or cases",
    )
