"""Decisions of questions with any number of correct options: every option is a decision of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sizewise.comparison.decided import Decided, Subject, as_score, label_places
from sizewise.comparison.label_figures import label_figures, reliability_diagram
from sizewise.documents.decisions import SEPARATOR
from sizewise.records import DecisionAnalysis, ItemRow, Score
from sizewise.records.decision_analysis import CostCells, LabelFigures
from sizewise.stats.calibration import calibration_error
from sizewise.stats.decision_curves import class_figures
from sizewise.stats.inference import MIN_CLUSTERS, FloatArray, Interval, estimate

THRESHOLD = 0.5
"""Probability from which an option is decided."""
NOT_DEFINED = (
    "Several labels may apply to a case, so each label is a decision of its own, made from a probability of 0.5. "
    "Confusions, costs, thresholds at a stated risk, drift and rates by group need one decision for each case and are "
    "left out: read each label as a predicate of its own for them."
)


def analyze_multi(rows: Sequence[ItemRow], subject: Subject, seed: int = 0) -> DecisionAnalysis:
    """Analyze decisions that may name several labels; pure.

    Args:
        rows: items of an evaluation, some with probabilities.
        subject: what is analyzed.
        seed: seed of the draws.
    """
    usable = [row for row in rows if row.probabilities and row.references and row.uncontaminated and row.error is None]
    options = dict.fromkeys(label for row in usable for label in row.probabilities or ())
    truth = [_labels_of(row.references[0], list(options)) for row in usable]
    labels = tuple(dict.fromkeys([*options, *(label for one in truth for label in one)]))
    stated = np.array([[(row.probabilities or {}).get(label, 0.0) for label in labels] for row in usable])
    hits = np.array([[float(label in one) for label in labels] for one in truth])
    clusters = [row.cluster for row in usable]
    notes = [NOT_DEFINED]
    if left_out := sum(1 for row in rows if row.kind == "example" and row.uncontaminated) - len(usable):
        notes.append(f"{left_out} of {left_out + len(usable)} items have no probabilities, or no label at all.")
    if len(set(clusters)) < MIN_CLUSTERS:
        notes.append(f"There are fewer than {MIN_CLUSTERS} source documents, too few for intervals.")
    each = [cluster for cluster in clusters for _ in labels]
    return DecisionAnalysis(
        evaluation=subject.evaluation,
        model=subject.model,
        data=subject.data,
        labels=labels,
        positive="",
        n=len(usable),
        clusters=len(set(clusters)),
        validation=0,
        scores=_scores(stated, hits, clusters, seed),
        calibration_p=None,
        reliability=reliability_diagram(stated.ravel(), hits.ravel(), each),
        coverage=(),
        claims=(),
        by_label=tuple(_figures(i, stated, hits, clusters, labels) for i in range(len(labels))),
        curves=(),
        confusion=(),
        drift=None,
        costs=None,
        cells=CostCells(kind="confidence", positive="", negative="", validation=(), test=(), design_effect=1.0),
        notes=tuple(notes),
    )


def _labels_of(reference: str, options: Sequence[str]) -> list[str]:
    """Split a reference answer into labels; options may hold the separator themselves."""
    place, found, parts = label_places(options), [], reference.split(SEPARATOR)
    while parts:
        for size in range(len(parts), 0, -1):
            known = place(SEPARATOR.join(parts[:size]))
            if known is not None or size == 1:
                found.append(parts[0] if known is None else options[known])
                parts = parts[size:]
                break
    return found


def _mean(values: FloatArray, clusters: Sequence[str]) -> Interval:
    stats = np.column_stack([values, np.ones(len(values))])
    return estimate(stats, clusters, lambda sums: sums[..., 0] / sums[..., 1], (0.0, 1.0))


def _scores(stated: FloatArray, hits: FloatArray, clusters: Sequence[str], seed: int) -> dict[str, Score]:
    n, decided = len(stated), stated >= THRESHOLD
    wrong = decided != (hits > 0)
    each = [cluster for cluster in clusters for _ in range(stated.shape[1])]
    error = calibration_error(stated.ravel(), hits.ravel(), each, seed=seed)
    named = np.column_stack([(decided & (hits > 0)).sum(axis=1), decided.sum(axis=1) + hits.sum(axis=1)]).astype(float)
    known = named[:, 1].sum() > 0
    micro = estimate(named, clusters, lambda sums: 2 * sums[..., 0] / sums[..., 1], (0.0, 1.0)) if known else None
    return {
        "subset_accuracy": as_score("subset_accuracy", _mean((~wrong.any(axis=1)).astype(float), clusters), n),
        "hamming_loss": as_score("hamming_loss", _mean(wrong.mean(axis=1), clusters), n),
        "micro_f1": as_score("micro_f1", micro, n, reason="no label is decided or correct"),
        "brier": as_score("brier", _mean(np.square(stated - hits).mean(axis=1), clusters), n, unit="0-1"),
        "calibration_error": as_score("calibration_error", Interval(*error[:3]), n),
    }


def _figures(
    number: int, stated: FloatArray, hits: FloatArray, clusters: Sequence[str], labels: Sequence[str]
) -> LabelFigures:
    """Compute the figures of one label as those of a question with two answers."""
    chance, correct = stated[:, number], hits[:, number].astype(np.int64)
    items = tuple(map(str, range(len(correct))))
    alone = Decided(items, list(clusters), np.column_stack([1 - chance, chance]), correct)
    found = class_figures((chance >= THRESHOLD).astype(np.int64), correct, clusters, 2)[1]
    return label_figures(alone, 1, ("", labels[number]), found)
