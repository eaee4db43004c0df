"""Calibration from two stored evaluations: a small answer is good if it scores close to the large model's."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sizewise.errors import SizewiseError, UsageError
from sizewise.metrics import find_metric
from sizewise.records import Calibration, Evaluation, ItemRow
from sizewise.routing.calibrating import calibrate_rows
from sizewise.stats.inference import FloatArray
from sizewise.store import Store

RANGES = {"accuracy": 1.0, "json_f1": 1.0, "field_f1": 1.0, "token_f1": 1.0, "chrf": 100.0, "exact_match": 1.0}
"""Per-answer metric -> maximum value."""
PER_ANSWER_METRICS = ("accuracy", "json_f1", "field_f1", "token_f1", "chrf")
"""Metrics that score single answers, in order of preference."""


class PairedAnswers(NamedTuple):
    """Uncontaminated test examples that both models answered."""

    metric: str
    items: list[str]
    prompts: list[str]
    lost: FloatArray
    """(items,) how much worse the small model's answer is, as a fraction of the metric's range; negative: better."""
    unanswered: int
    """Number of examples left out because the large model gave no answer."""


def pair_answers(small: str, large: str, *, metric: str | None = None, store: Store) -> PairedAnswers:
    """Pair the answers of two evaluations on the same data.

    Args:
        small: id of the small model's evaluation.
        large: id of the large model's evaluation.
        metric: per-answer metric; by default the first of `PER_ANSWER_METRICS` that both evaluations have.
        store: where records are stored.

    Raises:
        UsageError: the metric does not score single answers.
        SizewiseError: the evaluations use different data, or have no such metric in common.
    """
    records = [store.read(Evaluation, evaluation) for evaluation in (small, large)]
    if records[0].data != records[1].data:
        raise SizewiseError(
            f"{small} was measured on {records[0].data}, but {large} on {records[1].data}.",
            "two evaluations on the same data",
            f"sizewise evaluate {records[1].model.uri} --data {records[0].data}",
        )
    if metric is not None and metric not in RANGES:
        raise UsageError(
            f"'{metric}' does not score single answers.", ", ".join(RANGES), f"--metric {next(iter(RANGES))}"
        )
    shared = [
        name
        for name in ((metric,) if metric else PER_ANSWER_METRICS)
        if all(name in record.scores and record.scores[name].value is not None for record in records)
    ]
    if not shared:
        raise SizewiseError(
            f"{small} and {large} have no per-answer metric in common.",
            " or ".join(RANGES),
            "repeat the evaluations with --metrics",
        )
    rows = [_read_rows(record, shared[0], store) for record in (small, large)]
    both = [item for item in rows[0] if item in rows[1] and rows[0][item].uncontaminated]
    items = [item for item in both if not rows[1][item].error]  # without a large answer there is nothing to compare
    values = [np.array([_quality(shared[0], answers[item]) for item in items]) for answers in rows]
    return PairedAnswers(
        shared[0], items, [rows[0][item].prompt for item in items], values[1] - values[0], len(both) - len(items)
    )


def calibrate_evaluations(
    small: str,
    large: str,
    *,
    loss: float = 0.05,
    metric: str | None = None,
    risk: float | None = None,
    seed: int = 0,
    store: Store | None = None,
) -> Calibration:
    """Learn a router from two stored evaluations.

    Args:
        small: id of the small model's evaluation.
        large: id of the large model's evaluation.
        loss: how much worse a good small answer may be, as a fraction of the metric's range.
        metric: per-answer metric.
        risk: maximum fraction of answers that may be worse than that.
        seed: seed of the folds and of resampling.
        store: where records are stored; by default SIZEWISE_HOME.

    Raises:
        UsageError: the loss is not between 0 and 1, or the metric does not score single answers.
        SizewiseError: the evaluations do not match, or have too few examples.
    """
    if not 0 <= loss < 1:
        raise UsageError(f"The loss must be between 0 and 1, not {loss}.", "for example 0.05", "--loss 0.05")
    paired = pair_answers(small, large, metric=metric, store=store or Store())
    good = (paired.lost <= loss).astype(float)
    calibration = calibrate_rows(paired.prompts, good, np.ones(len(good)), f"{small} and {large}", risk, seed)
    definition = (
        f"a small answer counts as good if its {paired.metric} is at most {loss:.0%} of the range below the large "
        "model's"
    )
    notes = [definition, *calibration.notes]
    if paired.unanswered:
        notes.append(f"{paired.unanswered} prompts without an answer from the large model were left out")
    return calibration.model_copy(update={"evaluations": (small, large), "notes": tuple(notes)})


def _read_rows(evaluation: str, metric: str, store: Store) -> dict[str, ItemRow]:
    rows = store.read_rows(store.folder("evaluation", evaluation), "items.jsonl", ItemRow)
    return {row.item: row for row in rows if row.kind == "example" and metric in row.stats}


def _quality(metric: str, row: ItemRow) -> float:
    """Compute the quality of one answer, from 0 to 1."""
    return float(find_metric(metric).value(np.array(row.stats[metric]))) / RANGES[metric]
