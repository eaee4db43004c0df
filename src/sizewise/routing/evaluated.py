"""label(): prompts of two stored evaluations, with whether the small model's answers are good enough."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sizewise.errors import SizewiseError, UsageError
from sizewise.metrics import find_metric
from sizewise.records import Calibration, Evaluation, ItemRow
from sizewise.routing.calibrating import calibrate_rows
from sizewise.stats.bootstrap import FloatArray
from sizewise.store import Store

RANGES = {"accuracy": 1.0, "json_f1": 1.0, "token_f1": 1.0, "chrf": 100.0, "exact_match": 1.0}
"""Measure of one answer -> its range."""
OF_ONE_ANSWER = ("accuracy", "json_f1", "token_f1", "chrf")
"""The first that was measured tells one answer from another."""


class Judged(NamedTuple):
    """Clean test items that both models answered."""

    metric: str
    items: list[str]
    prompts: list[str]
    lost: FloatArray
    """(items,) how much worse the small model's answer is, as a share of the measure's range; below zero: better."""
    unanswered: int
    """Items left out because the large model gave no answer."""


def label(small: str, large: str, *, metric: str | None = None, store: Store) -> Judged:
    """Set the answers of two evaluations of the same data side by side.

    Args:
        small: id of the evaluation of the small model.
        large: of the large one.
        metric: measure of one answer; by default the first of `OF_ONE_ANSWER` that both have.
        store: where records live.

    Raises:
        UsageError: the measure is none of one answer.
        SizewiseError: the evaluations are of different data, or share no such measure.
    """
    records = [store.read(Evaluation, one) for one in (small, large)]
    if records[0].data != records[1].data:
        raise SizewiseError(
            f"{small} measured {records[0].data}, {large} measured {records[1].data}.",
            "two evaluations of the same data",
            f"sizewise evaluate {records[1].model.uri} --data {records[0].data}",
        )
    if metric is not None and metric not in RANGES:
        raise UsageError(f"'{metric}' does not tell one answer from another.", ", ".join(RANGES), "")
    shared = [
        name
        for name in ((metric,) if metric else OF_ONE_ANSWER)
        if all(name in one.scores and one.scores[name].value is not None for one in records)
    ]
    if not shared:
        raise SizewiseError(
            f"{small} and {large} share no measure of one answer.", " or ".join(RANGES), "evaluate again with --metrics"
        )
    rows = [_rows(one, shared[0], store) for one in (small, large)]
    both = [item for item in rows[0] if item in rows[1] and rows[0][item].uncontaminated]
    items = [item for item in both if not rows[1][item].error]  # no answer of the large one is no answer as good
    values = [np.array([_value(shared[0], some[item]) for item in items]) for some in rows]
    return Judged(
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
    """Learn a router from two stored evaluations: a small answer is good if it is not much worse than the large one's.

    Args:
        small: id of the evaluation of the small model.
        large: of the large one.
        loss: most that a small answer may be worse, as a share of the measure's range.
        metric: measure of one answer.
        risk: most share of answers that may be worse than that.
        seed: seed of the folds and of the resampling.
        store: where records live; by default SIZEWISE_HOME.

    Raises:
        UsageError: the loss is no share, or the measure none of one answer.
        SizewiseError: the evaluations do not fit each other, or have too few items.
    """
    if not 0 <= loss < 1:
        raise UsageError(f"A loss of {loss} is no share.", "for example 0.05", "--loss 0.05")
    found = label(small, large, metric=metric, store=store or Store())
    good = (found.lost <= loss).astype(float)
    learnt = calibrate_rows(found.prompts, good, np.ones(len(good)), f"{small} and {large}", risk, seed)
    said = f"a small answer is good if it is at most {loss:.0%} worse in {found.metric} than the large model's"
    notes = [said, *learnt.notes]
    if found.unanswered:
        notes.append(f"{found.unanswered} prompts that the large model did not answer are left out")
    return learnt.model_copy(update={"evaluations": (small, large), "notes": tuple(notes)})


def _rows(evaluation: str, metric: str, store: Store) -> dict[str, ItemRow]:
    rows = store.read_rows(store.folder("evaluation", evaluation), "items.jsonl", ItemRow)
    return {row.item: row for row in rows if row.kind == "example" and metric in row.stats}


def _value(metric: str, row: ItemRow) -> float:
    """Give the quality of one answer, from 0 to 1."""
    return float(find_metric(metric).value(np.array(row.stats[metric]))) / RANGES[metric]
