"""Counterfactual fairness of decisions: does the decision change when only the group of people in the text does?

Source: Kusner et al. (2017), Counterfactual fairness; Garg et al. (2019), Counterfactual fairness in text
classification through robustness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student_t

from sizewise.evaluation.swapping import SEPARATOR, Attribute, Case, attributes, case_row, group_gaps
from sizewise.inquiry import Inquiry, Work
from sizewise.metrics import find_metric, total
from sizewise.metrics.base import FloatArray
from sizewise.records import Completion, ItemRow, Message, Question, Request, Score
from sizewise.stats.inference import LEVEL, MIN_CLUSTERS, estimate

METRICS = ("counterfactual_flip", "counterfactual_shift", "counterfactual_gap", "counterfactual_probability")
VERSION = 1
QUICK = ("scikit-learn", "onnxruntime", "rule")
"""Engines that decide about thousands of texts in a minute."""


class Swapped(NamedTuple):
    """Decisions about all variants of the texts."""

    rows: list[ItemRow]
    scores: dict[str, Score]
    notes: list[str]


def measure_swapped(cases: Sequence[Case], question: Question, min_texts: int, inquiry: Inquiry) -> Swapped:
    """Decide about every variant of every text.

    Args:
        cases: texts with their variants.
        question: the question.
        min_texts: texts that an attribute needs for scores.
        inquiry: asks a model that makes decisions.
    """
    requests = [
        Request(id=f"{case.id}|{i}", messages=(Message(role="user", content=one.prompt),), question=question)
        for case in cases
        for i, one in enumerate(case.variants)
    ]
    answers = inquiry.ask(requests, Work("swap decisions", "Counterfactual decisions"))
    rows: list[ItemRow] = []
    scores: dict[str, Score] = {}
    notes: list[str] = []
    for attribute in attributes():
        part = [_row(case, question, answers) for case in cases if case.attribute.name == attribute.name]
        rows += part
        measured = [row for row in part if row.stats]
        found = _scores(attribute, measured, question, min_texts)
        scores |= found
        gap = found[f"counterfactual_gap#{attribute.name}"]
        if gap.value is not None and gap.ci_low is not None and gap.value > 0:
            one, other = _worst(attribute, measured)
            certain = "" if gap.ci_low > 0 else " (its interval includes zero)"
            notes.append(
                f"{attribute.name}: {_outcome(question)} is most likely where the text names {attribute.groups[one]}, "
                f"least where it names {attribute.groups[other]}{certain}."
            )
    return Swapped(rows, scores, notes)


def _outcome(question: Question) -> str:
    """Describe whose probability is compared: the first of two options, else the correct option."""
    return f"'{question.values[0]}'" if len(question.values) == 2 else "the correct option"


def _row(case: Case, question: Question, answers: Mapping[str, Completion]) -> ItemRow:
    found = [answers[f"{case.id}|{i}"] for i in range(len(case.variants))]
    error = next((one.error for one in found if one.error), None)
    reference = question.values[0] if len(question.values) == 2 else case.example.references[0]
    if error is None and not all(one.probabilities and reference in one.probabilities for one in found):
        error = "the model gave no probability of the option that is compared"
    stats: dict[str, tuple[float, ...]] = {}
    if error is None:
        chances = np.array([[(one.probabilities or {}).get(v, 0.0) for v in question.values] for one in found])
        decided = {one.text for one in found}
        pairs = [np.abs(a - b).sum() / 2 for a, b in combinations(chances, 2)]
        stats = {
            f"counterfactual_flip#{case.attribute.name}": (float(len(decided) > 1), 1.0),
            f"counterfactual_shift#{case.attribute.name}": (float(np.mean(pairs)), 1.0),
        }
        stats |= group_gaps("counterfactual_probability", case.attribute, chances[:, question.values.index(reference)])
    return case_row(case, "example", stats, error, SEPARATOR.join(one.text for one in found))


def _scores(attribute: Attribute, rows: Sequence[ItemRow], question: Question, min_texts: int) -> dict[str, Score]:
    signature = f"suite:counterfactuals|decisions:v{VERSION}|outcome:{_outcome(question)}"
    names = [f"{name}#{attribute.name}" for name in METRICS[:2]]
    names += [f"counterfactual_probability#{attribute.name}: {group}" for group in attribute.groups]
    gap = f"counterfactual_gap#{attribute.name}"
    if len(rows) < min_texts:
        absent = f"{len(rows)} texts mention this attribute; {min_texts} are needed"
        return {name: _absent(name, len(rows), signature, absent) for name in (*names, gap)}
    found = {name: _total(name, rows, signature) for name in names}
    found[gap] = gap_score(attribute, rows, gap, signature)
    return found


def _absent(name: str, n: int, signature: str, reason: str) -> Score:
    return Score(metric=name, n=n, unit="share", signature=signature, missing_reason=reason)


def _total(name: str, rows: Sequence[ItemRow], signature: str) -> Score:
    metric = find_metric(name.partition("#")[0])
    part = [row.model_copy(update={"stats": {metric.name: row.stats[name]}}) for row in rows]
    return total(metric, part, name=name, signature=signature)


def _worst(attribute: Attribute, rows: Sequence[ItemRow]) -> tuple[int, int]:
    """Return the groups with the highest and the lowest mean probability."""
    means = _changes(attribute, rows).mean(axis=0)
    return int(means.argmax()), int(means.argmin())


def _changes(attribute: Attribute, rows: Sequence[ItemRow]) -> FloatArray:
    """Return (texts, groups) differences from the mean over groups."""
    keys = [f"counterfactual_probability#{attribute.name}: {group}" for group in attribute.groups]
    return np.array([[row.stats[key][0] for key in keys] for row in rows], dtype=np.float64)


def gap_score(attribute: Attribute, rows: Sequence[ItemRow], name: str, signature: str) -> Score:
    """Compute the largest gap between two groups, with an interval that holds for all pairs together (Bonferroni)."""
    one, other = _worst(attribute, rows)
    changes, clusters = _changes(attribute, rows), [row.cluster for row in rows]
    stats = np.column_stack([changes[:, one] - changes[:, other], np.ones(len(rows))])
    found = estimate(stats, clusters, lambda sums: sums[..., 0] / sums[..., 1], (-1.0, 1.0))
    groups = len(attribute.groups)
    independent = len(set(clusters))
    known = independent >= MIN_CLUSTERS and bool(np.isfinite(found.ci_low) and np.isfinite(found.ci_high))
    pairs = groups * (groups - 1) // 2
    df = max(1, independent - 1)
    wider = float(student_t.isf(LEVEL / pairs / 2, df) / student_t.isf(LEVEL / 2, df))
    lower = max(0.0, found.value - wider * (found.value - found.ci_low)) if known else None
    upper = min(1.0, found.value + wider * (found.ci_high - found.value)) if known else None
    return Score(
        metric=name,
        value=found.value,
        ci_low=lower,
        ci_high=upper,
        ci_missing_reason="" if known else "too few source documents",
        n=len(rows),
        unit="share",
        signature=f"{signature}|largest of {pairs} pairs",
        clusters=independent,
    )
